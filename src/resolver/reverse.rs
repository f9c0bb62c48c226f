use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use super::Config;
use super::lookup::resolver;

/// How long a name for a log line is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name that the domain name system has for an address, for the log: it is whatever the
/// owner of the address wrote there, so nothing may be decided by it.
pub async fn name_of(config: &Config, address: IpAddr) -> Option<String> {
    let (resolver, _) = resolver(config).ok()?;
    let asked = resolver.lookup(Name::from(address), RecordType::PTR);
    let answer = timeout(PATIENCE, asked).await.ok()?.ok()?;
    let name = answer
        .answers()
        .iter()
        .find_map(|record| match &record.data {
            RData::PTR(name) => Some(name.to_ascii()),
            _ => None,
        })?;
    let name = name.trim_end_matches('.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}
