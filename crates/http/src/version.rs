use http::HeaderMap;
use umbel_api::Microversion;
use umbel_core::{Error, Kind, Result};

use crate::Reply;

/// How a service negotiates its microversion.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// As in `OpenStack-API-Version: <service> <version>`.
    pub service: &'static str,
    /// The header from before that one (`X-OpenStack-Nova-API-Version`), which takes the bare version.
    pub legacy_header: Option<&'static str>,
    pub min: Microversion,
    pub max: Microversion,
}

const HEADER: &str = "openstack-api-version";

impl Versions {
    /// The version to answer in: the asked one, `latest`, or the oldest if none was asked. 400 for what is no version,
    /// 406 for one we do not speak.
    pub(crate) fn negotiate(&self, headers: &HeaderMap) -> Result<Microversion> {
        let Some(asked) = self.asked(headers) else {
            return Ok(self.min);
        };
        if asked.eq_ignore_ascii_case("latest") {
            return Ok(self.max);
        }
        let version: Microversion = asked.parse()?;
        match self.min <= version && version <= self.max {
            true => Ok(version),
            false => Err(Error::new(
                Kind::NotAcceptable,
                format!(
                    "Version {version} is not supported by the API. Minimum is {} and maximum is {}.",
                    self.min, self.max
                ),
            )),
        }
    }

    fn asked<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        // A request can carry versions for several services, in several headers or in one separated by commas.
        for value in headers.get_all(HEADER) {
            for item in value.to_str().ok()?.split(',') {
                if let Some((service, version)) = item.trim().split_once(' ')
                    && service.eq_ignore_ascii_case(self.service)
                {
                    return Some(version.trim());
                }
            }
        }
        headers.get(self.legacy_header?)?.to_str().ok().map(str::trim)
    }

    pub(crate) fn label(&self, reply: Reply, version: Microversion) -> Reply {
        let mut vary = String::from("OpenStack-API-Version");
        let mut reply = reply.header(HEADER, format!("{} {version}", self.service));
        if let Some(legacy) = self.legacy_header {
            vary.push_str(", ");
            vary.push_str(legacy);
            reply = reply.header(legacy, version.to_string());
        }
        reply.header("vary", vary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPUTE: Versions = Versions {
        service: "compute",
        legacy_header: Some("x-openstack-nova-api-version"),
        min: Microversion::new(2, 1),
        max: Microversion::new(2, 104),
    };

    #[test]
    fn the_version_is_negotiated() {
        let check = |name: &'static str, value: &str, want: Result<(u16, u16), u16>| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let got = COMPUTE.negotiate(&headers).map_err(|error| error.kind().status());
            assert_eq!(got, want.map(|(major, minor)| Microversion::new(major, minor)), "{name}: {value}");
        };
        check(HEADER, "compute 2.100", Ok((2, 100)));
        check(HEADER, "volume 3.71, Compute latest", Ok((2, 104)));
        check(HEADER, "volume 3.71", Ok((2, 1)));
        check(HEADER, "compute 2.105", Err(406));
        check(HEADER, "compute 1.1", Err(406));
        check(HEADER, "compute two", Err(400));
        check("x-openstack-nova-api-version", "2.60", Ok((2, 60)));
        assert_eq!(COMPUTE.negotiate(&HeaderMap::new()).unwrap(), COMPUTE.min);
    }
}
