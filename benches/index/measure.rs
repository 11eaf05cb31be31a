//! What a process costs, told by itself: it is started for one step and ends with it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backup_benches::{Result, kilobytes};
use rustix::time::{ClockId, clock_gettime};

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// What a step cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Wall-clock time, seconds.
    pub(crate) wall: f64,
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// Most memory of its own that the process held, megabytes.
    pub(crate) anon: f64,
    /// The same with pages of mapped files, which the system takes back when it needs them.
    pub(crate) rss: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.wall, self.cpu, self.anon, self.rss)
    }
}

impl Cost {
    /// What a child has written with [`Display`](fmt::Display), and the numbers behind it.
    pub(crate) fn parse(text: &str) -> Result<(Self, Vec<f64>)> {
        let numbers: Vec<f64> =
            text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
        match numbers[..] {
            [wall, cpu, anon, rss, ref rest @ ..] => {
                Ok((Self { wall, cpu, anon, rss }, rest.to_vec()))
            }
            _ => Err(format!("cannot parse the output of a step: {text:?}").into()),
        }
    }
}

/// Looks at the memory of this process from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    anon: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let (stop, anon) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, peak) = (Arc::clone(&stop), Arc::clone(&anon));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // What cannot be read is told in the end.
                peak.fetch_max(kilobytes("RssAnon").unwrap_or(0), Ordering::Relaxed);
                thread::sleep(INTERVAL);
            }
        });
        Self { stop, anon, thread }
    }

    /// The cost of a step, with the peaks of the whole process.
    pub(crate) fn end(self, step: &Step) -> Result<Cost> {
        let (wall, cpu) = (step.begun.elapsed().as_secs_f64(), cpu_seconds() - step.cpu);
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread that samples memory failed")?;
        let anon = self.anon.load(Ordering::Relaxed).max(kilobytes("RssAnon")?);
        let megabytes = |kilobytes: u64| kilobytes as f64 * 1024.0 / 1e6;
        Ok(Cost { wall, cpu, anon: megabytes(anon), rss: megabytes(kilobytes("VmHWM")?) })
    }
}

/// The beginning of what is measured.
#[derive(Debug)]
pub(crate) struct Step {
    begun: Instant,
    cpu: f64,
}

impl Step {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), cpu: cpu_seconds() }
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
