//! What the system says of this process, read whenever metrics are asked for. Linux only:
//! elsewhere there is nothing to read, and nothing is served.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::telemetry::Metrics;

/// The unit of times in `/proc`, the same on all machines that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds `tidings_process_cpu_seconds_total`, `tidings_process_resident_memory_bytes` and
/// `tidings_process_open_fds`.
pub fn register_process(metrics: &Metrics) {
    metrics.collect(Process);
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time used, in user and system mode";
            let metric = MetricType::Counter;
            let encoder = encoder.encode_descriptor("process_cpu_seconds", help, None, metric)?;
            ConstCounter::new(seconds).encode(encoder)?;
        }
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that is in RAM",
                resident_bytes(),
            ),
            ("process_open_fds", "Open files and sockets", open_files()),
        ] {
            if let Some(value) = value {
                let metric = MetricType::Gauge;
                let encoder = encoder.encode_descriptor(name, help, None, metric)?;
                ConstGauge::new(value).encode(encoder)?;
            }
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, in parentheses; it may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<i64> {
    // One of them is the directory itself.
    let open = fs::read_dir("/proc/self/fd")
        .ok()?
        .count()
        .saturating_sub(1);
    i64::try_from(open).ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_what_it_uses() {
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        let used = cpu_seconds().unwrap();
        assert!((0.02..1000.0).contains(&used), "{used}");
        let resident = resident_bytes().unwrap();
        assert!((1 << 20..1 << 34).contains(&resident), "{resident}");
        assert!((3..100_000).contains(&open_files().unwrap()));
    }

    #[test]
    fn the_names_are_those_of_a_counter_and_two_gauges() {
        let metrics = Metrics::default();
        register_process(&metrics);
        let text = metrics.encode();
        assert!(
            text.contains("\ntidings_process_cpu_seconds_total "),
            "{text}"
        );
        assert!(
            text.contains("# TYPE tidings_process_open_fds gauge"),
            "{text}"
        );
    }
}
