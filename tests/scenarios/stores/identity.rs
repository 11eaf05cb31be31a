//! Keys that a machine gets from the services around it.

use std::path::{Path, PathBuf};

use backup_core::sink::{SinkOps, SinkResult};

use crate::support::fault_proxy::FaultProxy;
use crate::support::store::{Store, key, told};

async fn put(store: &Store) -> SinkResult<()> {
    store.open().await?.put_bytes(&key("data/a"), "by whom").await.map(drop)
}

async fn put_and_get(store: &Store) {
    let sink = store.sink().await;
    sink.put_bytes(&key("data/a"), "by whom").await.unwrap();
    assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap(), "by whom");
}

/// Only these variables, and none of the keys that tests have.
fn only(mut store: Store, variables: &[(&str, &str)]) -> Store {
    store.environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    store
}

/// Every request was signed with a key whose id begins like that.
#[track_caller]
fn assert_signed_by(proxy: &FaultProxy, id: &str) {
    let requests = proxy.requests();
    let credential = format!("Credential={id}");
    let all = requests.iter().all(|request| request.authorization.contains(&credential));
    assert!(requests.len() >= 2 && all, "not {id}: {requests:#?}");
}

fn file(room: &Path, name: &str, content: &str) -> PathBuf {
    crate::support::tree::write(room.join(name), content)
}

mod needs_moto_server {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backup_core::sink::SinkErrorKind;
    use jiff::SignedDuration;
    use serde_json::json;
    use tokio::io::{AsyncWriteExt, BufReader};

    use super::*;
    use crate::support::http::{Background, Head};
    use crate::support::restic::text;
    use crate::support::servers::moto::Moto;
    use crate::support::servers::s3::S3;
    use crate::support::store::{BUCKET, now};

    const ALLOW_ALL: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

    fn moto() -> (Moto, FaultProxy) {
        let moto = Moto::start();
        moto.s3.create_bucket(BUCKET, false);
        let proxy = FaultProxy::start(&moto.s3.endpoint);
        (moto, proxy)
    }

    fn through(moto: &Moto, proxy: &FaultProxy) -> Store {
        Store::s3(&moto.s3.at(&proxy.endpoint()), "x")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_the_instance() {
        let (moto, store_side) = moto();
        let metadata = FaultProxy::start(&moto.s3.endpoint);
        let store = through(&moto, &store_side);
        let store = only(store, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint())]);
        put_and_get(&store).await;
        assert_signed_by(&store_side, "test-key/");
        let asked: Vec<_> = metadata
            .requests()
            .into_iter()
            .map(|request| (request.method, request.target))
            .collect();
        let expected = [
            ("PUT", "/latest/api/token"),
            ("GET", "/latest/meta-data/iam/security-credentials/"),
            ("GET", "/latest/meta-data/iam/security-credentials/default-role"),
        ];
        let expected = expected.map(|(method, target)| (method.to_owned(), target.to_owned()));
        assert_eq!(asked, expected, "once, and with a token");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_the_instance_do_not_pass_the_proxy_of_the_network() {
        let (moto, store_side) = moto();
        let (metadata, network) =
            (FaultProxy::start(&moto.s3.endpoint), FaultProxy::start(&store_side.endpoint()));
        let store =
            through(&moto, &store_side).with(|settings| settings.proxy = Some(network.endpoint()));
        put_and_get(&only(store, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint())]))
            .await;
        assert!(network.count("PUT", "/bucket/x/data/a") == 1, "{:#?}", network.requests());
        assert_eq!((network.count("PUT", "/latest/"), network.count("GET", "/latest/")), (0, 0));
        assert_eq!((metadata.count("PUT", "/latest/"), metadata.count("GET", "/latest/")), (1, 2));
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/backups";

    /// A user who may do nothing but assume that role, which may do everything.
    fn machine(moto: &Moto) -> S3 {
        let role = [
            ("Action", "CreateRole"),
            ("RoleName", "backups"),
            ("AssumeRolePolicyDocument", ALLOW_ALL),
        ];
        moto.s3.manage_users(&role);
        let names = [("RoleName", "backups"), ("PolicyName", "all")];
        let policy =
            [("Action", "PutRolePolicy"), names[0], names[1], ("PolicyDocument", ALLOW_ALL)];
        moto.s3.manage_users(&policy);
        moto.user("machine", &ALLOW_ALL.replace(r#""Action":"*""#, r#""Action":"sts:AssumeRole""#))
    }

    /// Temporary keys of the role.
    struct Session {
        id: String,
        secret: String,
        token: String,
    }

    fn session(moto: &Moto) -> Session {
        let asked = [("Action", "AssumeRole"), ("RoleArn", ROLE), ("RoleSessionName", "pod")];
        let made = machine(moto).call("sts", "2011-06-15", &asked).text();
        let tag = |name: &str| {
            made.split(&format!("<{name}>")).nth(1).unwrap().split('<').next().unwrap().to_owned()
        };
        Session {
            id: tag("AccessKeyId"),
            secret: tag("SecretAccessKey"),
            token: tag("SessionToken"),
        }
    }

    /// A service that answers with what there is for a request, and counts who got something.
    struct Service {
        background: Background,
        given: Arc<AtomicUsize>,
    }

    impl Service {
        fn start(answer: impl Fn(&Head) -> Option<String> + Send + 'static) -> Self {
            let given = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&given);
            let background = Background::start(move |listener| async move {
                loop {
                    let mut client = BufReader::new(listener.accept().await.unwrap().0);
                    let Ok(Some(head)) = Head::read(&mut client).await else { continue };
                    let (status, body) = match answer(&head) {
                        Some(body) => ("200 OK", body),
                        None => ("403 Forbidden", String::new()),
                    };
                    count.fetch_add(usize::from(status == "200 OK"), Ordering::SeqCst);
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: \
                         {length}\r\n\r\n{body}"
                    );
                    // Who left does not want it.
                    client.write_all(answer.as_bytes()).await.ok();
                }
            });
            Self { background, given }
        }

        /// Of a container: the keys for who shows the token.
        fn container(Session { id, secret, token }: &Session) -> Self {
            let keys = json!({"AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": soon()});
            Self::start(move |head| {
                let may = head.target() == "/v1/credentials"
                    && head.field("authorization") == Some(TOKEN);
                may.then(|| keys.to_string())
            })
        }

        /// STS: the keys for who shows the token and wants the role.
        fn web_identity(Session { id, secret, token }: &Session) -> Self {
            let keys = format!(
                "<AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{token}</SessionToken><Expiration>{}</Expiration>",
                soon()
            );
            let (result, role) =
                ("AssumeRoleWithWebIdentityResult", ROLE.replace(':', "%3A").replace('/', "%2F"));
            let wanted = [
                "Action=AssumeRoleWithWebIdentity",
                &format!("RoleArn={role}"),
                &format!("WebIdentityToken={TOKEN}"),
            ]
            .map(str::to_owned);
            Self::start(move |head| {
                let may = head.method() == "POST"
                    && wanted.iter().all(|part| head.target().contains(part));
                may.then(|| format!("<Response><{result}><Credentials>{keys}</Credentials></{result}></Response>"))
            })
        }

        fn endpoint(&self) -> String {
            format!("http://127.0.0.1:{}", self.background.port)
        }

        fn given(&self) -> usize {
            self.given.load(Ordering::SeqCst)
        }
    }

    fn soon() -> String {
        (now() + SignedDuration::from_hours(1)).to_string()
    }

    const TOKEN: &str = "token-of-the-machine";

    /// They come from the service only, for the token in the file that the variable names.
    async fn assert_only_with_the_token(
        (moto, proxy): &(Moto, FaultProxy),
        service: fn(&Session) -> Service,
        variables: impl Fn(&Service) -> Vec<(&'static str, String)>,
        token_variable: &str,
    ) {
        let (room, session) = (tempfile::tempdir().unwrap(), session(moto));
        // From here on, a wrong secret is refused.
        moto.enforce();
        let with = |service: &Service, token: &str| {
            let token = file(room.path(), token, token);
            let variables = variables(service);
            let mut all: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
            all.push((token_variable, text(&token)));
            only(through(moto, proxy), &all)
        };
        let ours = service(&session);
        put_and_get(&with(&ours, TOKEN)).await;
        assert_signed_by(proxy, &format!("{}/", session.id));
        assert_eq!(ours.given(), 1, "they are kept");

        let impostor = service(&Session { secret: "another".to_owned(), ..session });
        for store in [with(&ours, "another-token"), with(&impostor, TOKEN)] {
            let error = store.open().await.expect_err("it was opened");
            assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{}", told(&error));
        }
        assert_eq!(ours.given(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_the_container() {
        let variables = |service: &Service| {
            vec![(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("{}/v1/credentials", service.endpoint()),
            )]
        };
        let token = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        assert_only_with_the_token(&moto(), Service::container, variables, token).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_a_web_identity() {
        let variables = |service: &Service| {
            vec![("AWS_ENDPOINT_URL_STS", service.endpoint()), ("AWS_ROLE_ARN", ROLE.to_owned())]
        };
        let token = "AWS_WEB_IDENTITY_TOKEN_FILE";
        assert_only_with_the_token(&moto(), Service::web_identity, variables, token).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_the_container_without_a_token_file() {
        let (moto, proxy) = moto();
        let container = FaultProxy::start(&moto.s3.endpoint);
        let address = format!(
            "{}/latest/meta-data/iam/security-credentials/default-role",
            container.endpoint()
        );
        let store = only(
            through(&moto, &proxy),
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address),
                // Never that of the machine which runs the tests.
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"),
            ],
        );
        put_and_get(&store).await;
        assert_signed_by(&proxy, "test-key/");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_of_an_assumed_role() {
        let ((moto, proxy), home) = (moto(), tempfile::tempdir().unwrap());
        let user = machine(&moto);
        moto.enforce();
        let profiles = format!(
            "[profile base]\naws_access_key_id = {}\naws_secret_access_key = {}\n\
             [profile role]\nrole_arn = {ROLE}\nsource_profile = base\n",
            user.key, user.secret
        );
        file(home.path(), ".aws/config", &profiles);
        let with = |profile: &str| {
            let sts = moto.s3.endpoint.clone();
            let variables = [
                ("HOME", text(home.path())),
                ("AWS_PROFILE", profile),
                ("AWS_ENDPOINT_URL_STS", &sts),
            ];
            only(through(&moto, &proxy), &variables)
        };
        put_and_get(&with("role")).await;
        assert_signed_by(&proxy, "ASIA");
        // It is the role that may.
        let error = put(&with("base")).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{}", told(&error));
    }
}
