//! The gauges of one scrape: made anew, so that nothing of jobs stays that are gone.

use jiff::Timestamp;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry, Result};

use super::gauges::{ALL, Gauge};

/// The gauges of one scrape.
pub(super) struct Board {
    registry: Registry,
    gauges: Vec<(&'static str, GaugeVec)>,
}

impl Board {
    pub(super) fn new() -> Result<Self> {
        let registry = Registry::new();
        let mut gauges = Vec::new();
        for gauge in ALL {
            let vec = GaugeVec::new(Opts::new(gauge.name, gauge.help), gauge.labels)?;
            registry.register(Box::new(vec.clone()))?;
            gauges.push((gauge.name, vec));
        }
        Ok(Self { registry, gauges })
    }

    /// Sets a gauge. None leaves it out: what is not known is not zero.
    pub(super) fn set(
        &self,
        gauge: &Gauge,
        labels: &[&str],
        value: impl Into<Option<f64>>,
    ) -> Result<()> {
        if let (Some(value), Some((_, vec))) =
            (value.into(), self.gauges.iter().find(|(name, _)| *name == gauge.name))
        {
            vec.get_metric_with_label_values(labels)?.set(value);
        }
        Ok(())
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

/// A moment as Prometheus has it.
pub(super) fn time(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

/// Whether something is so.
pub(super) fn yes(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}
