//! What is remembered under a name.

use rusqlite::Connection;

use super::{Store, StoreError};

impl Store {
    /// What was last remembered under that name.
    pub fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let found = self.database.query_row(
            "SELECT value FROM settings WHERE name = ?1",
            [name],
            |row| row.get(0),
        );
        match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            found => found.map(Some).map_err(self.failed("read a setting")),
        }
    }

    /// What was last remembered under names that begin with `prefix`, which they are told without.
    pub fn settings(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let read = || {
            let mut select = self
                .database
                .prepare_cached("SELECT name, value FROM settings ORDER BY name")?;
            let mut rows = select.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, value): (String, String) = (row.get(0)?, row.get(1)?);
                if let Some(rest) = name.strip_prefix(prefix) {
                    found.push((rest.to_owned(), value));
                }
            }
            Ok(found)
        };
        read().map_err(self.failed("read the settings"))
    }

    /// Remembers it under that name, in place of what was there.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        set(&self.database, name, value).map_err(self.failed("remember a setting"))
    }
}

pub(super) fn set(change: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    let set = change.execute(
        "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
        [name, value],
    );
    set.map(drop)
}
