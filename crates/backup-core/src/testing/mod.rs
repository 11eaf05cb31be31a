//! For tests: sinks that forget, count or fail, a source that follows a script, and the suites by
//! which every sink and every source proves itself. Not covered by semantic versioning.
//!
//! | file | what is in it |
//! |---|---|
//! | `memory_sink.rs` | [`MemorySink`]: objects in memory, as strict as the contract allows |
//! | `recording_sink.rs` | [`RecordingSink`]: counts what is done to another sink |
//! | `faulty_sink/` | [`FaultySink`]: lets operations of another sink fail by plan |
//! | `scripted_source/` | [`ScriptedSource`]: entries, contents and troubles by a script |
//! | `scripted_log.rs` | [`ScriptedLog`]: a source with a log |
//! | `capture_all.rs` | [`capture_all`]: its log, captured up to its end |
//! | `sink_conformance/` | [`sink_conformance`]: the suite for every sink |
//! | `source_conformance/` | [`source_conformance`]: the suite for every source |
//! | `fake_clock.rs` | [`FakeClock`]: a clock that a test sets |
//! | `tool.rs` | [`tool`]: programs that tests compare us with |

#![expect(
    clippy::panic,
    reason = "a check that fails ends the test with a message; there is no caller to return an \
              error to"
)]

mod capture_all;
mod fake_clock;
mod faulty_sink;
mod memory_sink;
mod recording_sink;
mod scripted_log;
mod scripted_source;
mod sink_conformance;
mod source_conformance;
mod tool;

pub use capture_all::capture_all;
pub use fake_clock::FakeClock;
pub use faulty_sink::{Fault, FaultRule, FaultySink};
pub use memory_sink::MemorySink;
pub use recording_sink::{Counts, Moment, Recorded, RecordingSink};
pub use scripted_log::ScriptedLog;
pub use scripted_source::{
    Data, RestoredEntry, ScriptedEntry, ScriptedSource, SourceCalls, Trouble,
};
pub use sink_conformance::{SinkDifferences, SinkHandles, sink_conformance};
pub use source_conformance::{SourceDifferences, SourceTarget, source_conformance};
pub use tool::tool;
