use http::{HeaderMap, HeaderName, HeaderValue};
use umbel_api::Microversion;
use umbel_core::{Error, Kind, Result};

use crate::Reply;
use crate::reply::name_of;

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

static HEADER: HeaderName = HeaderName::from_static("openstack-api-version");

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
        for value in headers.get_all(&HEADER) {
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
}

/// What an answer says of its version, as far as it is the same in each.
pub(crate) struct Label {
    service: &'static str,
    legacy: Option<HeaderName>,
    vary: HeaderValue,
}

impl Label {
    pub(crate) fn of(versions: &Versions) -> Self {
        let vary = match versions.legacy_header {
            Some(legacy) => HeaderValue::try_from(format!("OpenStack-API-Version, {legacy}")).ok(),
            None => None,
        };
        Label {
            service: versions.service,
            legacy: versions.legacy_header.and_then(name_of),
            vary: vary.unwrap_or(HeaderValue::from_static("OpenStack-API-Version")),
        }
    }

    pub(crate) fn put(&self, reply: &mut Reply, version: Microversion) {
        let headers = &mut reply.headers;
        if let Ok(value) = HeaderValue::try_from(format!("{} {version}", self.service)) {
            headers.insert(&HEADER, value);
        }
        if let Some(legacy) = &self.legacy
            && let Ok(value) = HeaderValue::try_from(version.to_string())
        {
            headers.insert(legacy, value);
        }
        headers.insert(http::header::VARY, self.vary.clone());
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
        const HEADER: &str = "openstack-api-version";
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
