//! `knockctl history`: read from the store in a thread of its own, so that packets need not wait
//! for it.

use crate::control::protocol::{Data, HistoryEntry};
use crate::control::{Asked, Call, Response};
use crate::store::{self, Entry, MOST_ENTRIES, Query};

use super::daemon::Daemon;
use super::memory::Memory;

/// How many entries are shown unless somebody wants more or fewer.
const USUAL: u32 = 100;

impl Daemon {
    /// Answers what is asked about the history once it is read; other calls are given back.
    pub(super) fn answer_history(&self, call: Call) -> Option<Call> {
        let Asked::History { nets, gates, limit } = call.asked else {
            return Some(call);
        };
        let unknown = gates
            .iter()
            .find(|name| self.engine.policy().gate(name).is_none());
        if let Some(unknown) = unknown {
            let refused = Response::refused(2, format!("there is no gate `{unknown}`"));
            let _ = call.reply.send(refused);
            return None;
        }
        let query = Query {
            nets,
            gates: gates.iter().map(ToString::to_string).collect(),
            limit: limit.unwrap_or(USUAL).min(MOST_ENTRIES),
        };
        let read = read(&self.memory, query);
        tokio::spawn(async move {
            // Whoever asked may have gone away meanwhile.
            let _ = call.reply.send(read.await);
        });
        None
    }
}

fn read(memory: &Memory, query: Query) -> impl Future<Output = Response> + use<> {
    let written = memory.written();
    let dir = memory.dir().to_owned();
    async move {
        // What has just been decided is part of it, unless the disk is slow or full.
        let _ = tokio::time::timeout(super::run::PATIENCE, written.told).await;
        let read = tokio::task::spawn_blocking(move || store::read_history(&dir, &query));
        match read.await {
            Ok(Ok(entries)) => {
                let entries = entries.into_iter().map(entry).collect();
                Response::with_data(0, Data::History { entries })
            }
            Ok(Err(error)) => Response::refused(1, error.to_string()),
            Err(error) => Response::refused(1, format!("cannot read the history: {error}")),
        }
    }
}

fn entry(entry: Entry) -> HistoryEntry {
    HistoryEntry {
        time: entry.time,
        what: entry.what,
        gate: entry.gate,
        address: entry.address,
        reason: entry.reason,
        until: entry.until,
        note: entry.note,
    }
}
