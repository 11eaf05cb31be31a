//! Leases on real stores: of many rivals one wins, and the next one's token is higher.

use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::repository::{Lease, LeaseOptions, Repository};

use crate::support::repo::Repo;
use crate::support::store::Store;

fn held_by(holder: &str) -> LeaseOptions {
    let settle = Duration::from_millis(500);
    LeaseOptions {
        period: Duration::from_secs(60),
        holder: holder.to_owned(),
        dead: Vec::new(),
        settle,
        ..LeaseOptions::default()
    }
}

/// Rivals with a connection each.
pub(super) async fn one_wins(store: &Store, rounds: u64) {
    let repo = Repo::init(store.sink().await).await;
    assert!(repo.repository.probe_store(&Context::silent()).await.unwrap().creates_atomically());
    let mut opened = Vec::new();
    for _ in 0..8 {
        opened.push(
            Repo::open(store.sink().await, repo.passphrase.reveal()).await.unwrap().repository,
        );
    }
    for round in 1..=rounds {
        let lease = race(&opened).await;
        assert_eq!(lease.token(), round);
        lease.confirm().await.unwrap();
        let late = Lease::acquire(&repo.repository, "prune", &held_by("late"), &Context::silent())
            .await
            .unwrap_err();
        assert!(
            late.kind() == ErrorKind::Busy && late.chain().contains("held by rival"),
            "{}",
            late.chain()
        );
        lease.release().await.unwrap();
    }
}

async fn race(rivals: &[Repository]) -> Lease {
    let acquire = |(at, repository): (usize, &Repository)| {
        let repository = repository.clone();
        tokio::spawn(async move {
            Lease::acquire(
                &repository,
                "prune",
                &held_by(&format!("rival {at}")),
                &Context::silent(),
            )
            .await
        })
    };
    let mut won = Vec::new();
    for rival in futures::future::join_all(rivals.iter().enumerate().map(acquire)).await {
        match rival.unwrap() {
            Ok(lease) => won.push(lease),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{}", error.chain()),
        }
    }
    assert_eq!(won.len(), 1, "winners");
    won.remove(0)
}

mod needs_weed {
    use super::*;
    use crate::support::fault_proxy::rules::{Fault, When};
    use crate::support::store::Stage;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_eight_rivals_one_wins() {
        one_wins(&Stage::new().truth("leases"), 2).await;
    }

    /// Every create's response is lost: whoever has the lease finds that out.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_rivals_whose_responses_are_lost_one_wins() {
        let stage = Stage::new();
        let lost =
            stage.proxy.inject(When::create().target("x-leases").times(2), Fault::ResetAfter);
        let repo = Repo::init(stage.store("leases").sink().await).await;
        // As `backup init` does: rivals that probe first come one after the other.
        repo.repository.probe_store(&Context::silent()).await.unwrap();
        let mut opened = Vec::new();
        for _ in 0..4 {
            let sink = stage.store("leases").sink().await;
            opened.push(Repo::open(sink, repo.passphrase.reveal()).await.unwrap().repository);
        }
        let lease = race(&opened).await;
        assert!(lost.count() > 0);
        lease.confirm().await.unwrap();
    }
}
