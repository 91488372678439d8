//! Outputs that lead back to the server itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use drainline::Address;
use drainline::ingest::sink::Target;

use super::outputs::Forward;
use super::settings::Settings;

/// A note for each output that sends to one of the server's own listeners, as far as that can be
/// seen without asking a name server.
pub(super) fn notes(settings: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    let listeners = settings.all_listeners();
    let addresses: Vec<_> = listeners
        .iter()
        .filter_map(|it| it.address.address())
        .collect();
    for output in settings.all_outputs() {
        let forward = output.destination.get::<Forward>();
        for target in forward.iter().flat_map(|forward| forward.targets()) {
            if let Some(own) = addresses.iter().find(|own| leads_to(target, own)) {
                notes.push(format!(
                    "{}: {target} is this server's own listener {own}: each message comes back, and \
                     is sent there again, for ever",
                    output.named_sink()
                ));
            }
        }
    }
    notes
}

fn leads_to(target: &Target, own: &Address) -> bool {
    match (target, own) {
        (Target::Tcp { host, port } | Target::Tls { host, port }, Address::Tcp(own)) => {
            let own_ip = own.ip().to_canonical();
            *port == own.port() && ips_of(host).into_iter().any(|ip| is_at(ip, own_ip))
        }
        (Target::Unix(path), Address::Unix(own)) => path == own,
        _ => false,
    }
}

fn ips_of(host: &str) -> Vec<IpAddr> {
    match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip.to_canonical()],
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Err(_) => Vec::new(),
    }
}

/// Whether a connection to an address arrives at a listener. Linux takes the unspecified address
/// for this machine; a listener on `::` takes IPv4, too.
fn is_at(ip: IpAddr, own: IpAddr) -> bool {
    let is_family = own.is_ipv6() || ip.is_ipv4();
    let is_this_machine = || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
    ip == own
        || (ip.is_unspecified() && own.is_loopback())
        || (own.is_unspecified() && is_family && is_this_machine())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_leads_back_where_its_address_is_a_listeners() {
        let leads = |target: &str, own: &str| {
            let own = match own.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Tcp(own.parse().expect("an address")),
            };
            leads_to(&target.parse().expect("a target"), &own)
        };
        for (target, own) in [
            ("tcp://127.0.0.1:5140", "127.0.0.1:5140"),
            ("tcp://LocalHost:5140", "127.0.0.1:5140"),
            ("tls://localhost:5140", "[::1]:5140"),
            ("tcp://127.0.0.9:5140", "0.0.0.0:5140"),
            ("tcp://127.0.0.1:5140", "[::]:5140"),
            ("tcp://0.0.0.0:5140", "127.0.0.1:5140"),
            ("unix:/run/own", "unix:/run/own"),
        ] {
            assert!(leads(target, own), "{target} {own}");
        }
        for (target, own) in [
            ("tcp://127.0.0.1:5141", "127.0.0.1:5140"),
            ("tcp://127.0.0.2:5140", "127.0.0.1:5140"),
            // An address of documentation, which no machine has (RFC 5737).
            ("tcp://192.0.2.1:5140", "0.0.0.0:5140"),
            ("tcp://[::1]:5140", "0.0.0.0:5140"),
            ("tcp://logs.example.org:5140", "0.0.0.0:5140"),
            ("unix:/run/other", "unix:/run/own"),
        ] {
            assert!(!leads(target, own), "{target} {own}");
        }
    }
}
