//! Opening a capture, and reading it once before where it has to tell about the host.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::file::{OpenError, Reader};
use super::host::{self, Host};
use super::link::Below;
use super::survey::Survey;
use super::{FormatError, Order, ReplayError};
use crate::policy::Policy;

/// Opens the capture, and reads it once before if it has to tell about the host.
pub(super) fn open(
    order: &Order,
    policy: &Policy,
    warnings: &mut Vec<String>,
) -> Result<(Reader<Box<dyn Read>>, Host), ReplayError> {
    let mut host = host::told(order, policy);
    let file = open_file(order)?;
    let Some(file) = file else {
        if host.addresses.is_empty() {
            return Err(ReplayError::NoAddress(order.capture.clone()));
        }
        if order.listening.is_none() {
            warnings.push(format!(
                "nothing is taken to listen, so that whoever uses this host's services may seem to \
                 sweep its ports: {} can be read but once; name the ports with --listening",
                order.capture.display()
            ));
        }
        return Ok((reader(order, once(order)?)?, host));
    };
    if is_untold(order) {
        look_for(
            order,
            policy,
            reader(order, Box::new(file))?,
            &mut host,
            warnings,
        )?;
        return Ok((reader(order, once(order)?)?, host));
    }
    Ok((reader(order, Box::new(file))?, host))
}

/// Whether the capture has to tell something.
pub(super) fn is_untold(order: &Order) -> bool {
    order.addresses.is_empty() || order.listening.is_none()
}

/// Looks in the capture for what the order does not tell of the host.
pub(super) fn look_for<R: Read>(
    order: &Order,
    policy: &Policy,
    mut reader: Reader<R>,
    host: &mut Host,
    warnings: &mut Vec<String>,
) -> Result<(), ReplayError> {
    let mut survey = Survey::new(policy);
    while let Ok((record, bytes)) = reader.next().map_err(|e| read_error(order, e))? {
        if let Some(Below::Ip(ip)) = record.link.map(|link| link.strip(bytes)) {
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
    Ok(())
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
