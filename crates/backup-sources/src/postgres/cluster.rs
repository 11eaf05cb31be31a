//! Which cluster this is: made sure of with every connection.

use backup_core::log::Stream;
use backup_core::source::{
    ProbeProblem, SourceError, SourceErrorKind, SourceIdentity, SourceResult,
};

use super::error::{malformed, of_sql};
use super::layout::Segments;
use super::options::PostgresOptions;
use super::wire::{Connection, Sql, System, timely};

/// What sources of this kind are called.
pub(super) const KIND: &str = "postgres";

/// A cluster, however many servers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) system_id: u64,
    pub(super) segments: Segments,
    /// For instance 150018 of 15.18.
    pub(super) version: u32,
    /// Why there is no replication, if there is none.
    pub(super) refusal: Option<ProbeProblem>,
}

impl Cluster {
    /// Asks the first server that answers; by SQL if it does not let us replicate.
    pub(super) async fn find(options: &PostgresOptions) -> SourceResult<Self> {
        let found = match Connection::open(options).await {
            Ok(connection) => Self::of(connection).await?,
            Err(error) if error.kind() == SourceErrorKind::Unavailable => return Err(error),
            Err(error) => match Self::by_sql(options).await {
                Ok(found) => {
                    let remedy = "grant REPLICATION to the user, and admit it in pg_hba.conf";
                    let refusal = ProbeProblem::of_error(&error, remedy);
                    Self { refusal: Some(refusal), ..found }
                }
                Err(_) => return Err(error),
            },
        };
        found.if_wanted(options)
    }

    fn if_wanted(self, options: &PostgresOptions) -> SourceResult<Self> {
        match options.system_id {
            Some(wanted) if wanted != self.system_id => Err(other_cluster(wanted, self.system_id)),
            _ => Ok(self),
        }
    }

    /// Asks by SQL alone, for what needs no replication.
    pub(super) async fn find_by_sql(options: &PostgresOptions) -> SourceResult<Self> {
        Self::by_sql(options).await?.if_wanted(options)
    }

    async fn of(mut connection: Connection) -> SourceResult<Self> {
        let doing = "cannot identify the cluster";
        let system = connection.identify().await.map_err(|error| error.into_source(doing))?;
        let size =
            connection.show("wal_segment_size").await.map_err(|error| error.into_source(doing))?;
        Ok(Self {
            system_id: system.id,
            segments: segments(&size)?,
            version: connection.version,
            refusal: None,
        })
    }

    async fn by_sql(options: &PostgresOptions) -> SourceResult<Self> {
        const ASKING: &str = "SELECT system_identifier, current_setting('wal_segment_size'), \
                              current_setting('server_version_num')::int FROM pg_control_system()";
        let sql = Sql::open(options, &options.database).await?;
        let doing = "cannot identify the cluster";
        let row = sql.client.query_one(ASKING, &[]).await.map_err(|error| of_sql(&error, doing))?;
        let get = |error| of_sql(&error, doing);
        let (id, size): (i64, String) =
            (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
        let version: i32 = row.try_get(2).map_err(get)?;
        Ok(Self {
            system_id: id.cast_unsigned(),
            segments: segments(&size)?,
            version: version.cast_unsigned(),
            refusal: None,
        })
    }

    /// Its log.
    pub(super) fn stream(&self) -> Stream {
        let id = self.system_id.to_string();
        Stream::of(&SourceIdentity {
            kind: KIND.to_owned(),
            id,
            host: String::new(),
            paths: Vec::new(),
        })
    }

    /// A connection for replication to this cluster and no other.
    pub(super) async fn connect(&self, options: &PostgresOptions) -> SourceResult<Connection> {
        let mut connection = Connection::open(options).await?;
        self.require_same(&mut connection).await?;
        Ok(connection)
    }

    /// Fails if it is another cluster: what is behind an address may be exchanged.
    pub(super) async fn require_same(&self, connection: &mut Connection) -> SourceResult<System> {
        let system = timely(connection.identify()).await;
        let system = system.map_err(|error| error.into_source("cannot identify the cluster"))?;
        if system.id == self.system_id {
            Ok(system)
        } else {
            Err(other_cluster(self.system_id, system.id))
        }
    }
}

fn other_cluster(wanted: u64, found: u64) -> SourceError {
    let text =
        format!("the server is of another cluster: its system identifier is {found}, not {wanted}");
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(
        "check the address; if the cluster was created again, back it up as another source",
    )
}

/// Of `16MB`, `1GB`.
fn segments(text: &str) -> SourceResult<Segments> {
    let units = [("MB", 1u64 << 20), ("GB", 1 << 30), ("kB", 1 << 10)];
    let size = units
        .iter()
        .find_map(|(unit, size)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*size));
    size.and_then(Segments::of_size).ok_or_else(|| malformed("WAL segment size"))
}

/// As people write it.
pub(super) fn version_text(version: u32) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
}
