//! Counters and histograms of requests, in Prometheus' text format.
//!
//! Written here rather than taken from a metrics crate: labels are known when a router is built, so that counting a
//! request is three additions without a lock or a look-up by label, and nothing that a client sends can become a label.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// What our services answer with, in order; anything else is counted as `other`.
const STATUSES: [u16; 33] = [
    200, 201, 202, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412,
    413, 415, 416, 422, 429, 499, 500, 501, 503, 504,
];

/// A client that went away before it was answered; a status of no standard, but of wide use in logs.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// Upper ends of the histogram's buckets in microseconds. Local reads take about 1 ms, logins tens, batches seconds.
const BOUNDS: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];

/// What requests of one route were answered.
pub(crate) struct Meter {
    by_status: [AtomicU64; STATUSES.len() + 1],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// Service, method, path of the route.
type Labels = (&'static str, &'static str, &'static str);

/// One list per process: two routers that serve the same route count in the same place, since a metric with the same
/// labels may be written only once.
static METERS: Mutex<BTreeMap<Labels, Arc<Meter>>> = Mutex::new(BTreeMap::new());

static CONNECTIONS: AtomicI64 = AtomicI64::new(0);

pub(crate) fn meter(service: &'static str, method: &'static str, route: &'static str) -> Arc<Meter> {
    METERS.lock().entry((service, method, route)).or_insert_with(|| Arc::new(Meter::new())).clone()
}

impl Meter {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Meter { by_status: [(); _].map(|()| zero()), buckets: [(); _].map(|()| zero()), micros: zero() }
    }

    pub(crate) fn count(&self, status: u16, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let status = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.by_status[status].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Counts a connection as open until it is dropped.
pub(crate) struct Connection(());

impl Connection {
    pub(crate) fn opened() -> Self {
        CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Connection(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn render() -> String {
    let meters: Vec<_> = METERS.lock().iter().map(|(labels, meter)| (*labels, meter.clone())).collect();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, &meters);
    text
}

fn write_all(text: &mut String, meters: &[(Labels, Arc<Meter>)]) -> fmt::Result {
    text.push_str("# HELP umbel_http_requests_total Requests that were answered.\n");
    text.push_str("# TYPE umbel_http_requests_total counter\n");
    for (labels, meter) in meters {
        write_requests(text, *labels, meter)?;
    }
    text.push_str("# HELP umbel_http_request_duration_seconds Time from a request's header to its answer's.\n");
    text.push_str("# TYPE umbel_http_request_duration_seconds histogram\n");
    for (labels, meter) in meters {
        write_durations(text, *labels, meter)?;
    }
    text.push_str("# HELP umbel_http_connections Connections that are open.\n");
    text.push_str("# TYPE umbel_http_connections gauge\n");
    writeln!(text, "umbel_http_connections {}", CONNECTIONS.load(Ordering::Relaxed))
}

fn write_requests(text: &mut String, (service, method, route): Labels, meter: &Meter) -> fmt::Result {
    for (at, count) in meter.by_status.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count == 0 {
            continue;
        }
        write!(
            text,
            "umbel_http_requests_total{{service=\"{service}\",method=\"{method}\",route=\"{route}\",status=\""
        )?;
        match STATUSES.get(at) {
            Some(status) => write!(text, "{status}")?,
            None => text.push_str("other"),
        }
        writeln!(text, "\"}} {count}")?;
    }
    Ok(())
}

fn write_durations(text: &mut String, (service, method, route): Labels, meter: &Meter) -> fmt::Result {
    let counts: Vec<u64> = meter.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return Ok(());
    }
    let name = "umbel_http_request_duration_seconds";
    let labels = format!("service=\"{service}\",method=\"{method}\",route=\"{route}\"");
    let mut below = 0;
    for (bound, count) in BOUNDS.iter().zip(&counts) {
        below += count;
        writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {below}", seconds(*bound))?;
    }
    writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}")?;
    writeln!(text, "{name}_sum{{{labels}}} {}", seconds(meter.micros.load(Ordering::Relaxed)))?;
    writeln!(text, "{name}_count{{{labels}}} {total}")
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order() {
        assert!(STATUSES.is_sorted() && BOUNDS.is_sorted());
    }

    #[test]
    fn a_histogram_accumulates() {
        let meter = Arc::new(Meter::new());
        for (status, micros) in [(200, 900), (200, 1_000), (404, 30_000), (418, 100_000_000)] {
            meter.count(status, Duration::from_micros(micros));
        }
        let mut text = String::new();
        write_all(&mut text, &[(("compute", "GET", "/v2.1/{id}"), meter)]).unwrap();
        let labels = r#"service="compute",method="GET",route="/v2.1/{id}""#;
        for line in [
            format!("umbel_http_requests_total{{{labels},status=\"200\"}} 2"),
            format!("umbel_http_requests_total{{{labels},status=\"404\"}} 1"),
            format!("umbel_http_requests_total{{{labels},status=\"other\"}} 1"),
            format!("umbel_http_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 2"),
            format!("umbel_http_request_duration_seconds_bucket{{{labels},le=\"0.025\"}} 2"),
            format!("umbel_http_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 3"),
            format!("umbel_http_request_duration_seconds_bucket{{{labels},le=\"60\"}} 3"),
            format!("umbel_http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4"),
            format!("umbel_http_request_duration_seconds_sum{{{labels}}} 100.0319"),
            format!("umbel_http_request_duration_seconds_count{{{labels}}} 4"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nnot in\n{text}");
        }
    }
}
