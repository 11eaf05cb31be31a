//! Programs that are to be hit before their end, at a moment of a duration that was measured.

use std::process::Child;
use std::time::Duration;

/// Returns `true` if the program still runs; else halves `whole`, which was measured while the
/// machine was busier.
pub(crate) fn is_hit(child: &mut Child, whole: &mut Duration) -> bool {
    halved_unless(child.try_wait().unwrap().is_none(), whole)
}

/// Kills the program `after` some time. Returns `true` if that was before its end; else halves
/// `whole` as [`is_hit`] does.
pub(crate) fn kill(mut child: Child, after: Duration, whole: &mut Duration) -> bool {
    std::thread::sleep(after);
    child.kill().unwrap();
    halved_unless(!child.wait().unwrap().success(), whole)
}

fn halved_unless(is_hit: bool, whole: &mut Duration) -> bool {
    if !is_hit {
        *whole /= 2;
    }
    is_hit
}
