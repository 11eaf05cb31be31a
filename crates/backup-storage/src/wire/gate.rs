//! How many requests are under way at a time.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Lets so many requests through at a time: fewer after the store asked to slow down, more again as
/// it answers.
///
/// The number is halved when asked, and grows by one after as many successes as it is large.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    open: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits that are to vanish when they come back.
    debt: usize,
    successes: usize,
}

/// The right to a request.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new(most: usize) -> Self {
        let state = State { limit: most, debt: 0, successes: 0 };
        Self { most, open: Semaphore::new(most), state: Mutex::new(state) }
    }

    /// The most requests that are ever let through at a time.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) async fn enter(&self) -> Permit<'_> {
        // The semaphore is never closed; if it were, there would be no limit.
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
        Permit(self)
    }

    /// The store asked to slow down.
    pub(crate) fn slow(&self) {
        let mut state = self.state();
        let limit = (state.limit / 2).max(1);
        state.debt += state.limit - limit;
        state.limit = limit;
        state.successes = 0;
        while state.debt > 0 {
            let Ok(permit) = self.open.try_acquire() else { break };
            permit.forget();
            state.debt -= 1;
        }
    }

    /// A request succeeded.
    pub(crate) fn fine(&self) {
        let mut state = self.state();
        if state.limit == self.most {
            return;
        }
        state.successes += 1;
        if state.successes < state.limit {
            return;
        }
        state.successes = 0;
        state.limit += 1;
        match state.debt {
            0 => self.open.add_permits(1),
            _ => state.debt -= 1,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match state.debt {
            0 => self.0.open.add_permits(1),
            _ => state.debt -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many can enter now.
    fn room(gate: &Gate) -> usize {
        gate.open.available_permits()
    }

    #[tokio::test]
    async fn it_halves_and_grows_again() {
        let gate = Gate::new(8);
        let busy: Vec<_> = futures::future::join_all((0..6).map(|_| gate.enter())).await;
        gate.slow();
        assert_eq!(room(&gate), 0, "six are under way where four may be");
        drop(busy);
        assert_eq!(room(&gate), 4);
        for _ in 0..4 {
            gate.slow();
        }
        assert_eq!(room(&gate), 1, "never none");
        for _ in 0..100 {
            gate.fine();
        }
        assert_eq!(room(&gate), 8, "never more than at first");
    }
}
