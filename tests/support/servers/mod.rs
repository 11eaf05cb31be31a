//! Object stores that tests start: each a process of its own on ports of its own, with its data in
//! a temporary directory, ready when `start` returns, gone when the value is dropped or the test's
//! process dies.
//!
//! | module    | what |
//! |-----------|------|
//! | `process` | starting, waiting and ending; ports that no two tests get |
//! | `s3`      | what the S3 servers share: credentials, buckets, raw signed requests |
//! | `weed`    | SeaweedFS: a real store with conditional writes, versions, object lock, users |
//! | `moto`    | moto: cold storage classes, KMS, STS, metadata service; checks neither signatures nor checksums |
//! | `rclone`  | rclone: the store that ignores conditions and locks without a word; also with TLS |
//! | `azurite` | Azurite: Azure's blobs |

pub(crate) mod azurite;
pub(crate) mod moto;
pub(crate) mod process;
pub(crate) mod rclone;
pub(crate) mod s3;
pub(crate) mod weed;
