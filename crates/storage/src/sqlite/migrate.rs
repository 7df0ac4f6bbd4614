//! Brings a database to this program's schema, or refuses.
//!
//! Migrations are numbered, embedded and append-only: one that has been released never changes. The database keeps
//! the checksum of each that was applied, so that a changed one is noticed instead of trusted.
//!
//! Invariant: a database with a newer schema than this program's is never touched.

use crate::{Error, Result};
use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use std::path::Path;

/// In order; the first has number 1.
const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_records",
    sql: include_str!("migrations/0001_records.sql"),
}];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number   INTEGER PRIMARY KEY,
    name     TEXT NOT NULL,
    checksum TEXT NOT NULL
) STRICT";

struct Migration {
    name: &'static str,
    sql: &'static str,
}

impl Migration {
    fn checksum(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, self.sql.as_bytes()))
    }
}

/// Applies what is missing, all of it or nothing.
pub(super) fn upgrade(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |e| Error::database(path, e);
    // One transaction from the look to the last change: a second process that starts now waits, then sees it done.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let found = check(&transaction, path)?;
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    transaction.execute_batch(TABLE).map_err(failed)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        transaction.execute_batch(migration.sql).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO migrations (number, name, checksum) VALUES (?1, ?2, ?3)",
                (count(index + 1), migration.name, migration.checksum()),
            )
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    let (database, schema) = (path.display(), MIGRATIONS.len());
    if found == 0 {
        tracing::info!(%database, schema, "database created");
    } else {
        tracing::info!(%database, from = found, schema, "schema upgraded");
    }
    Ok(())
}

/// Refuses a schema that is not exactly this program's.
pub(super) fn require_current(connection: &Connection, path: &Path) -> Result<()> {
    let found = check(connection, path)?;
    if found < MIGRATIONS.len() {
        let (found, known) = (count(found), count(MIGRATIONS.len()));
        return Err(Error::OlderSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

/// How many of this program's migrations the database has; refuses others.
fn check(connection: &Connection, path: &Path) -> Result<usize> {
    let applied = applied(connection).map_err(|e| Error::database(path, e))?;
    let newest = applied.last().map_or(0, |(number, ..)| *number);
    if newest > count(MIGRATIONS.len()) {
        return Err(Error::NewerSchema {
            path: path.to_owned(),
            found: newest,
            known: count(MIGRATIONS.len()),
        });
    }
    for (index, (number, name, checksum)) in applied.iter().enumerate() {
        let ours = MIGRATIONS
            .get(index)
            .filter(|m| *number == count(index + 1) && m.checksum() == *checksum);
        if ours.is_none() {
            return Err(Error::ForeignSchema {
                path: path.to_owned(),
                migration: name.clone(),
            });
        }
    }
    Ok(applied.len())
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<(u32, String, String)>> {
    let table = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
            (),
            |_| Ok(()),
        )
        .optional()?;
    if table.is_none() {
        return Ok(Vec::new());
    }
    let mut query = connection.prepare("SELECT number, name, checksum FROM migrations ORDER BY number")?;
    query
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

fn count(migrations: usize) -> u32 {
    u32::try_from(migrations).expect("there are few migrations")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    fn path() -> &'static Path {
        Path::new("eyot.db")
    }

    #[test]
    fn the_list_is_the_folder_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite/migrations");
        let mut files: Vec<String> = folder
            .read_dir()
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|m| format!("{}.sql", m.name)).collect();
        assert_eq!(listed, files);
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.name[..5], format!("{:04}_", index + 1));
        }
    }

    #[test]
    fn upgrading_twice_changes_nothing() {
        let mut database = database();
        assert!(matches!(
            require_current(&database, path()),
            Err(Error::OlderSchema { found: 0, .. })
        ));
        upgrade(&mut database, path()).unwrap();
        upgrade(&mut database, path()).unwrap();
        require_current(&database, path()).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_untouched() {
        let mut database = database();
        upgrade(&mut database, path()).unwrap();
        database
            .execute("INSERT INTO migrations VALUES (9999, '9999_later', 'x')", ())
            .unwrap();
        let refused = upgrade(&mut database, path()).unwrap_err();
        assert!(matches!(refused, Error::NewerSchema { found: 9999, .. }), "{refused}");
        assert!(
            refused
                .to_string()
                .starts_with("eyot.db has schema 9999, this program knows up to "),
            "{refused}"
        );
    }

    #[test]
    fn a_changed_migration_is_noticed() {
        let mut database = database();
        upgrade(&mut database, path()).unwrap();
        database
            .execute("UPDATE migrations SET checksum = 'x' WHERE number = 1", ())
            .unwrap();
        let refused = upgrade(&mut database, path()).unwrap_err();
        assert!(
            matches!(&refused, Error::ForeignSchema { migration, .. } if migration == "0001_records"),
            "{refused}"
        );
    }
}
