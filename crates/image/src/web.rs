//! What `web-download` may fetch: a user names a URL, and the service goes there with its own network's reach.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use umbel_client::Admission;
use umbel_core::{Error, Result};

/// As upstream's `[import_filtering_opts]`: where a list of what is allowed is not empty, the list of what is not is not
/// looked at. Names and addresses of hosts are compared as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    pub allowed_schemes: Vec<String>,
    pub disallowed_schemes: Vec<String>,
    pub allowed_hosts: Vec<String>,
    pub disallowed_hosts: Vec<String>,
    pub allowed_ports: Vec<u16>,
    pub disallowed_ports: Vec<u16>,
    /// `address/bits`. Hosts whose names stand for such an address are not connected to, unless `allowed_hosts` names
    /// them.
    pub disallowed_networks: Vec<String>,
}

impl Default for Filters {
    /// Upstream's: the usual ports, and neither this host nor a metadata service.
    fn default() -> Self {
        Filters {
            allowed_schemes: vec!["http".to_owned(), "https".to_owned()],
            disallowed_schemes: Vec::new(),
            allowed_hosts: Vec::new(),
            disallowed_hosts: Vec::new(),
            allowed_ports: vec![80, 443],
            disallowed_ports: Vec::new(),
            disallowed_networks: ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10"]
                .map(str::to_owned)
                .into(),
        }
    }
}

impl Filters {
    /// The first network that is no network, for the start of the service.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = self.disallowed_networks.iter().find(|text| network(text).is_none());
        match wrong {
            Some(text) => Err(Error::bad_request(format!("'{text}' is not a network: address/bits."))),
            None => Ok(()),
        }
    }

    fn names_host(&self, host: &str) -> bool {
        self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

impl Admission for Filters {
    fn url(&self, scheme: &str, host: &str, port: u16) -> Result<()> {
        let scheme = scheme.to_owned();
        let hosts_denied = self.disallowed_hosts.iter().any(|denied| denied.eq_ignore_ascii_case(host));
        let host_passes = match self.allowed_hosts.is_empty() {
            true => !hosts_denied,
            false => self.names_host(host),
        };
        if passes(&scheme, &self.allowed_schemes, &self.disallowed_schemes)
            && host_passes
            && passes(&port, &self.allowed_ports, &self.disallowed_ports)
        {
            return Ok(());
        }
        let message = format!("URI for web-download does not pass filtering: {scheme}://{host}:{port}");
        Err(Error::bad_request(message))
    }

    fn address(&self, host: &str, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's clothes leads to the same place.
        let address = address.to_canonical();
        if self.names_host(host) {
            return true;
        }
        let denied = self.disallowed_hosts.iter().filter(|_| self.allowed_hosts.is_empty());
        let named =
            denied.filter_map(|host| host.parse::<IpAddr>().ok()).any(|denied| denied.to_canonical() == address);
        !named && !self.disallowed_networks.iter().filter_map(|text| network(text)).any(|net| holds(net, address))
    }
}

fn passes<T: PartialEq>(value: &T, allowed: &[T], disallowed: &[T]) -> bool {
    match allowed.is_empty() {
        true => !disallowed.contains(value),
        false => allowed.contains(value),
    }
}

fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

fn holds((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let apart = network.to_bits() ^ address.to_bits();
            apart.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let apart = network.to_bits() ^ address.to_bits();
            apart.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(change: impl FnOnce(&mut Filters)) -> Filters {
        let mut filters = Filters::default();
        change(&mut filters);
        filters
    }

    #[test]
    fn urls_pass_or_do_not() {
        let check = |filters: &Filters, (scheme, host, port): (&str, &str, u16), want: bool| {
            assert_eq!(filters.url(scheme, host, port).is_ok(), want, "{scheme}://{host}:{port}");
        };
        let usual = Filters::default();
        check(&usual, ("http", "a.example", 80), true);
        check(&usual, ("https", "a.example", 443), true);
        check(&usual, ("http", "a.example", 22), false);
        check(&usual, ("ftp", "a.example", 80), false);
        let one = filters(|filters| {
            filters.allowed_hosts = vec!["A.example".to_owned()];
            filters.disallowed_hosts = vec!["a.example".to_owned()];
            filters.allowed_ports.clear();
            filters.disallowed_ports = vec![22];
        });
        check(&one, ("http", "a.example", 8080), true);
        check(&one, ("http", "b.example", 80), false);
        check(&one, ("http", "a.example", 22), false);
        let without = filters(|filters| filters.disallowed_hosts = vec!["b.example".to_owned()]);
        check(&without, ("http", "b.example", 80), false);
        check(&without, ("http", "a.example", 80), true);
    }

    #[test]
    fn addresses_pass_or_do_not() {
        let check = |filters: &Filters, host: &str, address: &str, want: bool| {
            assert_eq!(filters.address(host, address.parse().unwrap()), want, "{host}: {address}");
        };
        let usual = Filters::default();
        for inside in
            ["127.0.0.1", "127.9.9.9", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "::ffff:127.0.0.1", "::"]
        {
            check(&usual, "a.example", inside, false);
        }
        for outside in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "128.0.0.1", "::2"] {
            check(&usual, "a.example", outside, true);
        }
        let trusted = filters(|filters| filters.allowed_hosts = vec!["localhost".to_owned()]);
        check(&trusted, "localhost", "127.0.0.1", true);
        let named = filters(|filters| filters.disallowed_hosts = vec!["10.0.0.1".to_owned()]);
        check(&named, "a.example", "10.0.0.1", false);
        check(&named, "a.example", "10.0.0.2", true);
        let all = filters(|filters| filters.disallowed_networks = vec!["0.0.0.0/0".to_owned()]);
        check(&all, "a.example", "10.0.0.1", false);
        check(&all, "a.example", "2001:db8::1", true);
        assert!(filters(|filters| filters.disallowed_networks = vec!["10.0.0.1/33".to_owned()]).check().is_err());
        assert!(filters(|filters| filters.disallowed_networks = vec!["10.0.0.1".to_owned()]).check().is_err());
        assert!(all.check().is_ok() && usual.check().is_ok());
    }
}
