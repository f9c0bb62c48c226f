//! Opening a capture, and reading it once before where it has to tell about the host.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::clock::Course;
use super::file::{OpenError, Reader};
use super::host::{self, Host};
use super::link::Below;
use super::steps::Steps;
use super::survey::Survey;
use super::{FormatError, Order, ReplayError};
use crate::policy::Policy;

/// A capture from its start, and what is known of it.
pub(super) struct Capture<R> {
    pub(super) reader: Reader<R>,
    pub(super) host: Host,
    /// `None` if it was not read before.
    pub(super) course: Option<Course>,
}

/// Opens the capture, and reads it once before if that is possible.
pub(super) fn open(
    order: &Order,
    policy: &Policy,
    warnings: &mut Vec<String>,
) -> Result<Capture<Box<dyn Read>>, ReplayError> {
    let mut host = host::told(order, policy);
    let course = match open_file(order)? {
        Some(file) => {
            let before = reader(order, Box::new(file))?;
            Some(read_before(order, policy, before, &mut host, warnings)?)
        }
        None if host.addresses.is_empty() => {
            return Err(ReplayError::NoAddress(order.capture.clone()));
        }
        None => {
            warnings.extend(untold(order));
            None
        }
    };
    let reader = reader(order, once(order)?)?;
    Ok(Capture {
        reader,
        host,
        course,
    })
}

/// What is missing where the capture can be read but once.
fn untold(order: &Order) -> Option<String> {
    order.listening.is_none().then(|| {
        format!(
            "nothing is taken to listen, so that whoever uses this host's services may seem to \
             sweep its ports: {} can be read but once; name the ports with --listening",
            order.capture.display()
        )
    })
}

/// Looks in the capture for how its time goes, and for what the order does not tell of the host.
pub(super) fn read_before<R: Read>(
    order: &Order,
    policy: &Policy,
    mut reader: Reader<R>,
    host: &mut Host,
    warnings: &mut Vec<String>,
) -> Result<Course, ReplayError> {
    let is_untold = order.addresses.is_empty() || order.listening.is_none();
    let mut survey = Survey::new(policy);
    let (mut start, mut steps) = (None, Steps::default());
    while let Ok((record, bytes)) = reader.next().map_err(|e| read_error(order, e))? {
        if let Some(at) = record.at {
            start = start.or(Some(at));
            steps.look_at(at);
        }
        if is_untold && let Some(Below::Ip(ip)) = record.link.map(|link| link.strip(bytes)) {
            survey.look_at(ip, record.interface);
        }
    }
    if order.addresses.is_empty() {
        let found = survey.found()?;
        warnings.extend(host::guessed(&host.addresses, &found));
        // Where the policy tells an address, packets to it count whatever card they seem to be for.
        if host.addresses.is_empty() {
            host.cards = found.cards;
        }
        host.addresses.extend(found.own);
    }
    if order.listening.is_none() {
        host.listening = survey.listening(&host.addresses);
    }
    let set_back = steps.set_back();
    Ok(Course { start, set_back })
}

/// The capture, if it can be read as often as one likes.
fn open_file(order: &Order) -> Result<Option<File>, ReplayError> {
    if order.capture == Path::new("-") {
        return Ok(None);
    }
    let kind = std::fs::metadata(&order.capture).map_err(|e| open_error(order, e))?;
    if kind.is_dir() {
        return Err(open_error(order, io::ErrorKind::IsADirectory.into()));
    }
    if !kind.is_file() {
        return Ok(None);
    }
    let file = File::open(&order.capture).map_err(|e| open_error(order, e))?;
    Ok(Some(file))
}

/// The capture from its start, for good.
fn once(order: &Order) -> Result<Box<dyn Read>, ReplayError> {
    if order.capture == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(&order.capture).map_err(|e| open_error(order, e))?;
    Ok(Box::new(file))
}

fn reader(order: &Order, from: Box<dyn Read>) -> Result<Reader<Box<dyn Read>>, ReplayError> {
    reader_of(order, Box::new(BufReader::with_capacity(1 << 16, from)))
}

pub(super) fn reader_of<R: Read>(order: &Order, from: R) -> Result<Reader<R>, ReplayError> {
    Reader::open(from).map_err(|error| match error {
        OpenError::Format(error) => format_error(order, error),
        OpenError::Io(source) => read_error(order, source),
    })
}

fn open_error(order: &Order, source: io::Error) -> ReplayError {
    let file = order.capture.clone();
    ReplayError::Open { file, source }
}

pub(super) fn read_error(order: &Order, source: io::Error) -> ReplayError {
    let file = order.capture.clone();
    ReplayError::Read { file, source }
}

pub(super) fn format_error(order: &Order, source: FormatError) -> ReplayError {
    let file = order.capture.clone();
    ReplayError::Format { file, source }
}
