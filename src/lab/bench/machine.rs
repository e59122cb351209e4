//! The state of the machine, before and while it is measured. Everything is read from files
//! of Linux; where there are none, there is nothing to report.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A tick is a hundredth of a second on every Linux that strandline runs on.
const TICKS: f64 = 100.0;

/// Time between two looks at the sensors.
const LOOK: Duration = Duration::from_millis(500);

/// Of the highest frequency seen: below this the processor counts as slowed down.
const SLOW: f64 = 0.9;

/// Of one core: more time than this used by other programs, or by other guests of the machine,
/// disturbs a measurement.
const DISTURBED: f64 = 0.05;

/// What does not change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor or board.
    pub processor: String,
    /// Processors that the program may use.
    pub cores: usize,
    /// Kernel.
    pub kernel: String,
    /// Frequency governor.
    pub governor: String,
    /// Architecture.
    pub architecture: String,
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_matches(['\0', '\n', ' ']).to_string())
}

fn number(path: impl AsRef<Path>) -> Option<f64> {
    text(path)?.parse().ok()
}

fn entries(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listed
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

impl Machine {
    /// Looks.
    pub fn look() -> Machine {
        let info = text("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let board = text("/proc/device-tree/model");
        let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Machine {
            processor: board
                .or_else(|| field("model name"))
                .or_else(|| field("Hardware"))
                .unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            governor: governor.unwrap_or_else(|| "unknown".to_string()),
            architecture: std::env::consts::ARCH.to_string(),
        }
    }
}

/// Bytes of this process that are in memory now, and at most so far.
pub fn resident() -> Option<(u64, u64)> {
    let status = text("/proc/self/status")?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((field("VmRSS:")? * 1024, field("VmHWM:")? * 1024))
}

/// One look at the sensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the watch began.
    pub seconds: f64,
    /// Mean over the processors, MHz.
    pub mhz: Option<f64>,
    /// The hottest zone, °C.
    pub celsius: Option<f64>,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Joules since the watch began, where the machine counts them.
    pub joules: Option<f64>,
}

fn mhz() -> Option<f64> {
    let cpus = entries("/sys/devices/system/cpu", "cpu");
    let mut all: Vec<f64> = cpus
        .iter()
        .filter_map(|cpu| number(cpu.join("cpufreq/scaling_cur_freq")))
        .map(|khz| khz / 1000.0)
        .collect();
    if all.is_empty() {
        let info = text("/proc/cpuinfo")?;
        let lines = info.lines().filter(|line| line.starts_with("cpu MHz"));
        all = lines
            .filter_map(|line| line.split_once(':')?.1.trim().parse().ok())
            .collect();
    }
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

fn celsius() -> Option<f64> {
    let zones = entries("/sys/class/thermal", "thermal_zone");
    let all = zones.iter().filter_map(|zone| number(zone.join("temp")));
    all.map(|milli| milli / 1000.0).reduce(f64::max)
}

/// Times that a processor was held back for heat or power: Intel's counters, and the Raspberry Pi's
/// word.
fn throttled() -> u64 {
    let cpus = entries("/sys/devices/system/cpu", "cpu");
    let counts = cpus.iter().flat_map(|cpu| {
        let folder = cpu.join("thermal_throttle");
        ["core_throttle_count", "package_throttle_count"].map(|name| number(folder.join(name)))
    });
    let pi = text("/sys/devices/platform/soc/soc:firmware/get_throttled");
    // Bits 0 to 3 are the state of the moment: undervoltage, frequency capped, throttled, soft
    // limit.
    let pi = pi.and_then(|hex| u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
    counts.flatten().sum::<f64>() as u64 + pi.map_or(0, |bits| bits & 0xf)
}

/// Microjoules by Intel's and AMD's counters, which wrap around.
fn packages() -> Vec<(f64, f64)> {
    let all = entries("/sys/class/powercap", "intel-rapl:");
    let packages = all.iter().filter(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        name.is_some_and(|n| n.matches(':').count() == 1)
    });
    packages
        .filter_map(|path| {
            let range = number(path.join("max_energy_range_uj"))?;
            Some((number(path.join("energy_uj"))?, range))
        })
        .collect()
}

/// Watts by the sensors of a Jetson (INA3221): the sum of its input rails' first channel.
fn watts() -> Option<f64> {
    let chips = entries("/sys/class/hwmon", "hwmon");
    let ina = chips
        .iter()
        .filter(|chip| text(chip.join("name")).is_some_and(|name| name.starts_with("ina3221")));
    let power = ina.filter_map(|chip| {
        let volts = number(chip.join("in1_input"))? / 1000.0;
        Some(volts * number(chip.join("curr1_input"))? / 1000.0)
    });
    power.reduce(|a, b| a + b)
}

/// Ticks of all processors that were busy, and that other guests took; of this process.
fn ticks() -> Option<(f64, f64, f64)> {
    let stat = text("/proc/stat")?;
    let fields = stat.lines().next()?.split_whitespace().skip(1);
    let all: Vec<f64> = fields.filter_map(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = all.first()? + all.get(1)? + all.get(2)? + all.get(5)? + all.get(6)?;
    Some((busy, *all.get(7)?, own_ticks("/proc/self/stat")?))
}

/// Ticks of a process or a thread.
fn own_ticks(file: &str) -> Option<f64> {
    let own = text(file)?;
    // The name may hold blanks; it ends with the last parenthesis.
    let own = own.rsplit_once(')')?.1;
    let own: Vec<f64> = own
        .split_whitespace()
        .filter_map(|f| f.parse().ok())
        .collect();
    // Without the state, a letter, utime and stime are fields 11 and 12 counted from ppid.
    Some(own.get(10)? + own.get(11)?)
}

/// Processor seconds of this process so far, to a hundredth.
pub(super) fn process_seconds() -> Option<f64> {
    Some(own_ticks("/proc/self/stat")? / TICKS)
}

/// The same of this thread.
pub(super) fn thread_seconds() -> Option<f64> {
    Some(own_ticks("/proc/thread-self/stat")? / TICKS)
}

/// What was seen over a measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// The sensors over time.
    pub samples: Vec<Sample>,
    /// Why the figures are not to be trusted; empty where they are.
    pub doubts: Vec<String>,
    /// Energy, where the machine counts it.
    pub joules: Option<f64>,
}

/// Looks at the sensors until it is asked for the result.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn begin() -> std::io::Result<Watch> {
        let ended = Arc::new(AtomicBool::new(false));
        let own = ended.clone();
        let thread = std::thread::Builder::new()
            .name("sensors".into())
            .spawn(move || watch(&own))?;
        Ok(Watch { ended, thread })
    }

    /// Ends, and gives what was seen.
    pub fn end(self) -> Watched {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A watch that died saw nothing that could be reported.
        self.thread.join().unwrap_or_default()
    }
}

fn watch(ended: &AtomicBool) -> Watched {
    let start = Instant::now();
    let (first_ticks, first_throttled) = (ticks(), throttled());
    let mut counters = packages();
    let counts_energy = !counters.is_empty() || watts().is_some();
    let mut joules = 0.0;
    let mut last = start;
    let mut samples: Vec<Sample> = vec![];
    loop {
        let over = ended.load(Ordering::Relaxed);
        let passed = last.elapsed().as_secs_f64();
        last = Instant::now();
        let now = packages();
        for ((before, range), (after, _)) in counters.iter().zip(&now) {
            let microjoules = after - before;
            joules += if microjoules < 0.0 {
                microjoules + range
            } else {
                microjoules
            } / 1e6;
        }
        counters = now;
        if counters.is_empty() {
            joules += watts().unwrap_or(0.0) * passed;
        }
        samples.push(Sample {
            seconds: start.elapsed().as_secs_f64(),
            mhz: mhz(),
            celsius: celsius(),
            resident: resident().map_or(0, |(now, _)| now),
            joules: counts_energy.then_some(joules),
        });
        if over {
            break;
        }
        std::thread::park_timeout(LOOK);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut doubts = vec![];
    let times = throttled().saturating_sub(first_throttled);
    if times > 0 {
        doubts.push(format!("the processor was throttled ({times} events)"));
    }
    let speeds = samples.iter().filter_map(|s| s.mhz);
    let (low, high) = speeds.fold((f64::MAX, 0.0), |(low, high), mhz| {
        (mhz.min(low), mhz.max(high))
    });
    if low < SLOW * high {
        doubts.push(format!(
            "its frequency went down from {high:.0} to {low:.0} MHz"
        ));
    }
    if let (Some(before), Some(after)) = (first_ticks, ticks()) {
        let cores = |ticks: f64| ticks / TICKS / seconds.max(0.01);
        let (busy, stolen, own) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        if cores(busy - own) > DISTURBED {
            let others = 100.0 * cores(busy - own);
            doubts.push(format!("other programs took {others:.0} % of a core"));
        }
        if cores(stolen) > DISTURBED {
            let others = 100.0 * cores(stolen);
            doubts.push(format!(
                "other guests of the machine took {others:.0} % of a core"
            ));
        }
    }
    Watched {
        samples,
        doubts,
        joules: counts_energy.then_some(joules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_this_process() {
        let watch = Watch::begin().unwrap();
        let held = vec![1u8; 32 << 20];
        std::thread::sleep(Duration::from_millis(50));
        let watched = watch.end();
        assert!(watched.samples.len() >= 2);
        assert!(watched.samples.is_sorted_by(|a, b| a.seconds <= b.seconds));
        if cfg!(target_os = "linux") {
            assert!(watched.samples.iter().all(|s| s.resident > 1 << 20));
            let (now, most) = resident().unwrap();
            assert!(now >= std::hint::black_box(&held).len() as u64 && most >= now);
        }
        assert!(Machine::look().cores > 0);
    }
}
