//! The proxy of a network: used where it is set, passed by where that is said.

mod needs_weed {
    use backup_core::sink::SinkOps;

    use crate::support::fault_proxy::FaultProxy;
    use crate::support::store::{Stage, Store, key};

    async fn put_and_get(store: &Store) {
        let sink = store.sink().await;
        sink.put_bytes(&key("data/a"), "through").await.unwrap();
        assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap(), "through");
    }

    fn with(store: &Store, name: &str, value: &str) -> Store {
        let mut store = store.clone();
        store.environment.insert(name.to_owned(), value.to_owned());
        store
    }

    /// Who sends through a proxy asks it for whole URLs.
    #[track_caller]
    fn assert_used(proxy: &FaultProxy, endpoint: &str) {
        let (requests, target) = (proxy.requests(), format!("{endpoint}/bucket/x/data/a"));
        assert_eq!(
            (proxy.count("PUT", &target), proxy.count("GET", &target)),
            (1, 1),
            "{requests:#?}"
        );
        assert!(
            requests.iter().all(|request| request.target.starts_with(endpoint)),
            "{requests:#?}"
        );
        proxy.forget();
    }

    /// The proxy, set in each of the three ways.
    fn ways(stage: &Stage, endpoint: &str) -> [Store; 3] {
        let (direct, proxy) = (Store::s3(&stage.weed.s3.at(endpoint), "x"), stage.proxy.endpoint());
        let mut addressed = direct.clone();
        addressed.address.push_str(&format!("&proxy={proxy}"));
        let set = direct.clone().with(|settings| settings.proxy = Some(proxy.clone()));
        [set, addressed, with(&direct, "HTTPS_PROXY", &proxy)]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_used() {
        let stage = Stage::new();
        let endpoint = &stage.weed.s3.endpoint;
        for store in ways(&stage, endpoint) {
            put_and_get(&store).await;
            assert_used(&stage.proxy, endpoint);
            put_and_get(&with(&store, "NO_PROXY", "example.org,10.0.0.0/8")).await;
            assert_used(&stage.proxy, endpoint);
        }
        let mut program = Store::s3(&stage.weed.s3, "of-the-program");
        program.address.push_str(&format!("&proxy={}", stage.proxy.endpoint()));
        program.cli("password").run(&["init"]).succeeded();
        assert_eq!(
            stage.proxy.count("PUT", &format!("{endpoint}/bucket/of-the-program/config")),
            1
        );
    }

    async fn assert_around(stage: &Stage, endpoint: &str, exceptions: &[(&str, &str)]) {
        for store in ways(stage, endpoint) {
            for (name, value) in exceptions {
                put_and_get(&with(&store, name, value)).await;
                let requests = stage.proxy.requests();
                assert!(requests.is_empty(), "{name}={value}: {requests:#?}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn exceptions_go_around_it() {
        let stage = Stage::new();
        let exceptions = [("NO_PROXY", "example.org,127.0.0.1"), ("no_proxy", "127.0.0.0/8")];
        assert_around(&stage, &stage.weed.s3.endpoint, &exceptions).await;
        let named = stage.weed.s3.endpoint.replace("127.0.0.1", "localhost");
        assert_around(&stage, &named, &[("NO_PROXY", "localhost"), ("no_proxy", "example.org, *")])
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_hosts_are_an_exception() {
        let stage = Stage::new();
        assert_around(&stage, &stage.weed.s3.endpoint, &[("NO_PROXY", "*")]).await;
    }
}
