//! What `--direct` has decided is written down, and what went wrong on the way is told.

use super::Direct;
use super::catch_up::CatchUp;
use crate::control::Response;
use crate::engine::News;
use crate::knockd::memory::{clocks, happened};
use crate::store::Batch;

impl Direct {
    /// Writes down what was decided: it is to outlive a reboot as what the daemon decides does, and
    /// to be in the history. What the kernel did not take did not happen.
    pub(super) fn remember(&mut self) {
        let mut news = self.engine.take_news();
        let mut edits = std::mem::take(&mut self.edits);
        if self.unwritten.is_some() {
            news = News::default();
            edits.clear();
        }
        let at = clocks("");
        let records = self.records.drain(..).chain(news.records);
        let mut batch = Batch {
            memos: news.memos,
            trust: edits,
            happened: records.map(|record| happened(record, &at)).collect(),
            ..Batch::default()
        };
        if batch.memos.is_empty() && batch.trust.is_empty() && batch.happened.is_empty() {
            return;
        }
        let promised = !batch.trust.is_empty();
        let caught_up = self.catch_up(&mut batch);
        let written = caught_up.and_then(|()| match &mut self.store {
            Ok(_) if self.unread => Err("what is written there cannot be read".to_owned()),
            Ok(store) => {
                let clocks = clocks(store.boot_id());
                store.write(&batch, &clocks).map_err(|it| it.to_string())
            }
            Err(error) => Err(error.to_string()),
        });
        self.unstored = written.err().map(|why| (why, promised));
    }

    /// Where the store is not about this boot yet, it is from now on: with all that holds, in the
    /// kernel too.
    fn catch_up(&mut self, batch: &mut Batch) -> Result<(), String> {
        let (Some(catch_up), Ok(store), false) = (&self.catch_up, &self.store, self.unread) else {
            return Ok(());
        };
        if let Some(why) = &self.unwritten {
            // What the engine holds is not what the kernel took.
            return Err(why.clone());
        }
        let at = clocks(store.boot_id());
        let everything = CatchUp::everything(store, &self.engine, &at);
        batch.everything = Some(everything.map_err(|error| error.to_string())?);
        batch.memos.clear();
        let missing = catch_up.missing(&self.engine, at.boot);
        // What is not there yet is not to be put back where it fails.
        let mut held = self.members(at.boot);
        held.retain(|member| catch_up.holds(member));
        self.write(missing, &held);
        self.unwritten.clone().map_or(Ok(()), Err)
    }

    /// Adds what went wrong on the way.
    pub(super) fn told(&self, mut response: Response) -> Response {
        match &self.unstored {
            Some((why, true)) => {
                response.code = 1;
                let line = format!("in force, but only until knockd starts: {why}");
                response.refused.push(line);
            }
            Some((why, false)) if response.code == 0 => {
                let line = format!("in force, but not written to the disk: {why}");
                response.done.push(line);
            }
            _ => {}
        }
        response
    }
}
