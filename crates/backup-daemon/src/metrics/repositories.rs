//! Repositories.

use backup_control::alerts::Facts;
use backup_control::config::Config;
use prometheus::Result;

use super::board::{Board, time, yes};
use super::gauges::{
    COPIED, LOOKED_INTO, STORAGE, STORAGE_COST, STORAGE_FREE, STORAGE_LASTS, STORAGE_OBJECTS,
    STORAGE_RATIO, VERIFIED, VERIFIED_SOUND,
};
use super::looked::Looked;

/// Bytes of a GiB, which prices are for.
const GIB: f64 = 1_073_741_824.0;

pub(super) fn measure(
    board: &Board,
    config: &Config,
    facts: &Facts,
    looked: &Looked,
) -> Result<()> {
    let currency = config.report.currency.as_deref().unwrap_or("USD");
    for name in config.repositories.keys() {
        if let Some(known) = looked.repositories.get(name) {
            board.set(&LOOKED_INTO, &[name], time(known.at))?;
            board.set(&STORAGE, &[name], known.used as f64)?;
            board.set(&STORAGE_OBJECTS, &[name], known.objects as f64)?;
            board.set(&STORAGE_FREE, &[name], known.left.map(|left| left as f64))?;
            let whole = known.quota.or(known.left.map(|left| left.saturating_add(known.used)));
            let ratio =
                whole.filter(|whole| *whole > 0).map(|whole| known.used as f64 / whole as f64);
            board.set(&STORAGE_RATIO, &[name], ratio)?;
            board.set(
                &STORAGE_LASTS,
                &[name],
                known.days_left.map(|days| days as f64 * 86_400.0),
            )?;
            let price = config.report.prices.get(name);
            board.set(
                &STORAGE_COST,
                &[name, currency],
                price.map(|price| price * known.used as f64 / GIB),
            )?;
        }
        if let Some(known) = facts.repositories.get(name) {
            board.set(&VERIFIED, &[name], known.verified.as_ref().map(|done| time(done.time)))?;
            board.set(
                &VERIFIED_SOUND,
                &[name],
                known.verified.as_ref().map(|done| yes(done.is_success)),
            )?;
            board.set(&COPIED, &[name], known.last_copy.map(time))?;
        }
    }
    Ok(())
}
