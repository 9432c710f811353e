//! A store in one SQLite file.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};

use super::{Error, Identity, Saved, Store, Unsynced, Write};
use crate::Position;
use crate::command::{Command, CommandId, MAX_NUMBER};

/// "ieum" in the file's header.
const APPLICATION: i64 = 0x6965_756d;

/// The file's format, counted up with each change.
const FORMAT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE commands (
        place INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        n INTEGER,
        body TEXT NOT NULL,
        acknowledged INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// Keeps everything in one SQLite file, readable for its owner only, since it holds the device's secret. It is open in one process
/// at a time. Commands are fsynced, one fsync for all that come together; what the server would tell again is not, but for one in
/// 32 answers.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    connection: Connection,
    /// Whether SQLite fsyncs each commit just now.
    full: bool,
    /// How many answers were committed since the last fsync.
    unsynced: Unsynced,
}

impl Disk {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Foreign`], [`Error::Newer`], [`Error::Damaged`] or what the file system said.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let fresh = make_file(&path)?;
        let connection = Connection::open(&path).map_err(|error| classify("open", &path, error))?;
        let mut disk = Self { path, connection, full: true, unsynced: Unsynced::default() };
        disk.prepare()?;
        if fresh {
            disk.sync_folder()?;
        }
        Ok(disk)
    }

    fn prepare(&mut self) -> Result<(), Error> {
        self.run("open", |connection| {
            connection.busy_timeout(std::time::Duration::ZERO)?;
            // Before the file is looked at: so the lock is taken once and held until the store is closed.
            connection.pragma_update(None, "locking_mode", "exclusive")?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
        })?;
        let (application, format, tables) = self.run("read the header", |connection| {
            let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let tables = number("SELECT count(*) FROM sqlite_schema")?;
            Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?, tables))
        })?;
        match (application, format) {
            (0, 0) if tables == 0 => self.make_tables(),
            (APPLICATION, FORMAT) => self.check(),
            (APPLICATION, found) => Err(Error::Newer { path: self.path.clone(), found, known: FORMAT }),
            _ => Err(Error::Foreign { path: self.path.clone() }),
        }
    }

    fn make_tables(&mut self) -> Result<(), Error> {
        self.run("make the tables", |connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.commit()
        })
    }

    fn check(&mut self) -> Result<(), Error> {
        let verdict: String =
            self.run("check", |connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if verdict == "ok" { Ok(()) } else { Err(self.damaged(verdict)) }
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::Io { operation: "fsync of the folder", path: self.path.clone(), source })
    }

    fn run<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&mut self.connection).map_err(|error| classify(operation, &self.path, error))
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), what: what.into() }
    }

    fn fact(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.run("read", |connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM facts WHERE name = ?1")?;
            statement.query_row([name], |row| row.get(0)).optional()
        })
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.fact(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number <= MAX_NUMBER);
        number.map(Some).ok_or_else(|| self.damaged(format!("{name} is no number")))
    }

    fn commands(&mut self, acknowledged: bool) -> Result<Vec<Command>, Error> {
        let sql = "SELECT place, id, n, body FROM commands WHERE acknowledged = ?1 ORDER BY place";
        let rows: Vec<(u64, String, Option<u64>, String)> = self.run("read the outbox", |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows =
                statement.query_map([acknowledged], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            rows.collect()
        })?;
        let (mut last, mut unnumbered) = (None, false);
        let mut commands = Vec::with_capacity(rows.len());
        for (place, id, n, body) in rows {
            unnumbered |= n.is_none();
            let in_order = if n.is_some() { !unnumbered && last < n } else { !acknowledged };
            if !in_order || n > Some(MAX_NUMBER) {
                return Err(self.damaged(format!("command {place} has a number out of order")));
            }
            last = n.or(last);
            let Some(id) = CommandId::read(&id) else {
                return Err(self.damaged(format!("command {place} has no readable id")));
            };
            commands.push(Command { place, id, n, body: Arc::from(body) });
        }
        Ok(commands)
    }

    /// Commits with fsync or without; never changes its mind within a transaction.
    fn set_full(&mut self, full: bool) -> Result<(), Error> {
        if self.full != full {
            let word = if full { "full" } else { "normal" };
            self.run("set synchronous", |connection| connection.pragma_update(None, "synchronous", word))?;
            self.full = full;
        }
        Ok(())
    }
}

impl Store for Disk {
    fn identity(&mut self) -> Result<Option<Identity>, Error> {
        let (user, device) = (self.number("user")?, self.number("device")?);
        Ok(match (user, device, self.fact("secret")?) {
            (Some(user), Some(device), Some(secret)) => Some(Identity { user, device, secret }),
            _ => None,
        })
    }

    fn load(&mut self) -> Result<Saved, Error> {
        Ok(Saved {
            last: self.number("last")?,
            answered: self.number("answered")?.unwrap_or(0),
            cursor: self.fact("cursor")?.as_deref().map(Position::read),
            seen: self.fact("seen")?.as_deref().map(Position::read),
            endpoints: self
                .fact("endpoints")?
                .map(|list| list.lines().map(str::to_owned).collect())
                .unwrap_or_default(),
            outbox: self.commands(false)?,
            kept: self.commands(true)?,
        })
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), Error> {
        let (unsynced, full) = self.unsynced.with(writes);
        self.set_full(full)?;
        self.run("commit", |connection| {
            let transaction = connection.transaction()?;
            for write in writes {
                apply(&transaction, write)?;
            }
            transaction.commit()
        })?;
        self.unsynced = unsynced;
        Ok(())
    }

    fn blocks(&self) -> bool {
        true
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values).map(|_| ());
    let fact = |name: &str, value: &str| run("REPLACE INTO facts (name, value) VALUES (?1, ?2)", params![name, value]);
    match write {
        Write::Identity(identity) => {
            fact("user", &identity.user.to_string())?;
            fact("device", &identity.device.to_string())?;
            fact("secret", &identity.secret)
        }
        Write::Add(Command { place, id, n, body }) => {
            if let Some(n) = n {
                fact("last", &n.to_string())?;
            }
            let sql = "INSERT INTO commands (place, id, n, body, acknowledged) VALUES (?1, ?2, ?3, ?4, 0)";
            run(sql, params![place, id.to_string(), n, body])
        }
        Write::Number { place, n } => run("UPDATE commands SET n = ?2 WHERE place = ?1", params![place, n]),
        Write::Replace { place, id, body } => {
            run("UPDATE commands SET id = ?2, body = ?3 WHERE place = ?1", params![place, id.to_string(), body])
        }
        Write::Answered { place, n, keep } => {
            let answered = "INSERT INTO facts (name, value) VALUES ('answered', ?1) ON CONFLICT (name) DO UPDATE
                SET value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)";
            run(answered, params![n.to_string()])?;
            if *keep {
                return run("UPDATE commands SET acknowledged = 1 WHERE place = ?1", params![place]);
            }
            run("DELETE FROM commands WHERE place = ?1", params![place])
        }
        Write::Reoffer { place } => run("UPDATE commands SET acknowledged = 0 WHERE place = ?1", params![place]),
        Write::Forget { place } => run("DELETE FROM commands WHERE place = ?1", params![place]),
        Write::Counter { last, answered } => {
            fact("last", &last.to_string())?;
            fact("answered", &answered.to_string())
        }
        Write::Cursor(Some(cursor)) => fact("cursor", &cursor.to_string()),
        Write::Cursor(None) => run("DELETE FROM facts WHERE name = 'cursor'", &[]),
        Write::Seen(seen) => fact("seen", &seen.to_string()),
        // None holds a line's end: only what can be read as an endpoint is kept.
        Write::Endpoints(endpoints) => fact("endpoints", &endpoints.join("\n")),
    }
}

/// Makes the file if it is not there, for its owner only; tells whether it made it.
fn make_file(path: &Path) -> Result<bool, Error> {
    let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("making")(error)),
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = std::fs::metadata(path).map_err(failed("looking at the permissions"))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let owner_only = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path, owner_only).map_err(failed("setting the permissions"))?;
        }
    }
    Ok(false)
}

fn classify(operation: &'static str, path: &Path, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::InUse { path },
        Some(ErrorCode::NotADatabase) => Error::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => Error::Damaged { path, what: error.to_string() },
        _ => Error::Sqlite { operation, path, source: error },
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
