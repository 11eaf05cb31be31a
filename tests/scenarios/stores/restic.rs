//! Stock restic on our servers, also through faults: what holds for it must hold for us.

mod needs_weed {
    mod needs_restic {
        use std::fs;

        use crate::support::compare::assert_same;
        use crate::support::fault_proxy::FaultProxy;
        use crate::support::fault_proxy::answers::Answer;
        use crate::support::fault_proxy::rules::{Fault, When};
        use crate::support::long::long;
        use crate::support::noise::noise;
        use crate::support::repo::restored;
        use crate::support::restic::{RESTICS, Restic};
        use crate::support::servers::weed::SeaweedFs;

        #[test]
        fn backs_up_through_faults() {
            let weed = SeaweedFs::start();
            weed.s3.create_bucket("bucket", false);
            let proxy = FaultProxy::start(&weed.s3.endpoint);
            let source = tempfile::tempdir().unwrap();
            let files = if long() { 200 } else { 8 };
            for file in 0..files {
                fs::write(source.path().join(file.to_string()), noise(file, 5_000_000)).unwrap();
            }
            for (seed, version) in (1..).zip(RESTICS) {
                let environment = weed.s3.environment();
                let at = |endpoint: &str| {
                    let repository = format!("s3:{endpoint}/bucket/{version}");
                    Restic::remote(version, repository, "password", environment.clone())
                };
                at(&proxy.endpoint()).init("2");
                proxy.heal();
                proxy.inject(
                    When::put().target("/data/").share(0.2, seed),
                    Fault::Answer(Answer::slow_down()),
                );
                let lost = proxy
                    .inject(When::put().target("/data/").share(0.2, seed + 10), Fault::ResetAfter);
                let cut = proxy.inject(
                    When::method("GET").target("/data/").after(1).times(2),
                    Fault::Truncate(100),
                );
                at(&proxy.endpoint()).backup(&[source.path()]);
                at(&proxy.endpoint()).check();
                assert!(lost.count() + cut.count() > 0);
                let target = tempfile::tempdir().unwrap();
                at(&weed.s3.endpoint).restore("latest", target.path());
                assert_same(source.path(), &restored(target.path(), source.path()));
            }
        }
    }
}
