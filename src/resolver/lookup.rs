use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::{Config, ResolveError, addresses, hosts};

/// How long an entry of the hosts file counts before it is looked at again.
const HOSTS_VALID: Duration = Duration::from_secs(300);

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// Those among them that are only the last good ones of a family that was not answered.
    pub(super) kept: Vec<IpAddr>,
    pub(super) valid_for: Duration,
}

/// What one family's question was answered with.
#[derive(Debug)]
enum Answer {
    Addresses(Vec<IpAddr>, Instant),
    /// The name exists, but not in this family.
    None,
    NoSuchName,
    Failed(ResolveError),
}

/// Asks for A and AAAA together. Where only one family is answered, the `last` good addresses of
/// the other are kept: a server that drops one kind of question must not shut half a machine out.
pub(super) async fn resolve(
    config: &Config,
    name: &str,
    last: &[IpAddr],
) -> Result<Found, ResolveError> {
    let asked = tokio::time::timeout(config.timing.lookup, ask(config, name, last));
    asked.await.unwrap_or(Err(ResolveError::Timeout))
}

async fn ask(config: &Config, text: &str, last: &[IpAddr]) -> Result<Found, ResolveError> {
    let name = Name::from_utf8(text).map_err(|error| ResolveError::Name(error.to_string()))?;
    let local = hosts::lookup(&config.hosts, text).await;
    if !local.is_empty() {
        return Ok(Found {
            addresses: addresses::useful(text, local)?,
            kept: Vec::new(),
            // It has no time to live, but it can be edited.
            valid_for: config.timing.longest.min(HOSTS_VALID),
        });
    }
    let (resolver, search) = resolver(config)?;
    let mut outcome = Err(ResolveError::NoSuchName);
    for candidate in candidates(&name, &search) {
        let (four, six) = tokio::join!(
            question(&resolver, &candidate, RecordType::A),
            question(&resolver, &candidate, RecordType::AAAA)
        );
        outcome = combine(text, four, six, last, config);
        match outcome {
            Err(ResolveError::NoSuchName | ResolveError::NoAddresses) => {}
            _ => break,
        }
    }
    outcome
}

/// A name with a dot is meant as it is; only a bare one is looked for in the search domains
/// (resolv.conf(5)), so that a wildcard of one's own domain never stands in for a foreign name
/// that is gone.
pub(super) fn candidates(name: &Name, search: &[Name]) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() || name.num_labels() > 1 {
        return vec![absolute];
    }
    let mut all: Vec<Name> = search
        .iter()
        .filter_map(|domain| name.clone().append_domain(domain).ok())
        .collect();
    all.push(absolute);
    all
}

pub(super) fn resolver(config: &Config) -> Result<(TokioResolver, Vec<Name>), ResolveError> {
    let failed = |problem: String| ResolveError::Config {
        path: config.resolv_conf.clone(),
        problem,
    };
    let (servers, mut options) = match config.name_server {
        Some(server) => (one_server(server), ResolverOpts::default()),
        None => read_resolv_conf(&config.resolv_conf).map_err(|error| failed(error.to_string()))?,
    };
    // The schedule asks when the answers' time is up; a cache would only answer it with the past.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = false;
    let mut search = servers.search().to_vec();
    if let (true, Some(domain)) = (search.is_empty(), servers.domain()) {
        search.push(domain.clone());
    }
    let mut builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let resolver = builder.build().map_err(|error| failed(error.to_string()))?;
    Ok((resolver, search))
}

fn read_resolv_conf(path: &Path) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    // resolv.conf(5) limits nothing; whoever has more than this has another file there.
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, 1 << 20), &mut text)?;
    hickory_resolver::system_conf::parse_resolv_conf(text)
}

fn one_server(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .collect();
    let server = NameServerConfig::new(server.ip(), true, connections);
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

async fn question(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Answer {
    match resolver.lookup(name.clone(), kind).await {
        Ok(lookup) => {
            let found: Vec<IpAddr> = lookup
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect();
            if found.is_empty() {
                Answer::None
            } else {
                Answer::Addresses(found, lookup.valid_until())
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
            ResponseCode::NXDomain => Answer::NoSuchName,
            ResponseCode::NoError => Answer::None,
            code => Answer::Failed(ResolveError::Lookup(code.to_string())),
        },
        Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::NXDomain))) => Answer::NoSuchName,
        Err(NetError::Timeout) => Answer::Failed(ResolveError::Timeout),
        Err(error) => Answer::Failed(ResolveError::Lookup(error.to_string())),
    }
}

fn combine(
    name: &str,
    four: Answer,
    six: Answer,
    last: &[IpAddr],
    config: &Config,
) -> Result<Found, ResolveError> {
    let mut found = Vec::new();
    let mut until = None;
    let mut failure = None;
    let mut unknown = false;
    for (answer, is_four) in [(four, true), (six, false)] {
        match answer {
            Answer::Addresses(addresses, valid_until) => {
                found.extend(addresses);
                until = Some(until.map_or(valid_until, |other: Instant| other.min(valid_until)));
            }
            Answer::None => {}
            Answer::NoSuchName => unknown = true,
            Answer::Failed(why) => failure = Some((why, is_four)),
        }
    }
    let Some(until) = until else {
        return Err(match failure {
            Some((why, _)) => why,
            None if unknown => ResolveError::NoSuchName,
            None => ResolveError::NoAddresses,
        });
    };
    let good = addresses::useful(name, found)?;
    let timing = &config.timing;
    let Some((_, is_four)) = failure else {
        let left = until.saturating_duration_since(Instant::now());
        return Ok(Found {
            addresses: good,
            kept: Vec::new(),
            valid_for: left.clamp(timing.shortest, timing.longest),
        });
    };
    let kept: Vec<IpAddr> = last
        .iter()
        .copied()
        .filter(|address| address.is_ipv4() == is_four)
        .collect();
    Ok(Found {
        addresses: addresses::useful(name, good.into_iter().chain(kept.iter().copied()))?,
        kept,
        // The other family is asked for again soon.
        valid_for: timing.shortest,
    })
}
