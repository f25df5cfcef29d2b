//! The way of values in and out of rows.

use jiff::Timestamp;
use sea_orm::{QueryResult, TryGetable, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// A row of an answer, read column by column.
pub(crate) struct Row(pub(super) QueryResult);

impl Row {
    pub(crate) fn get<T: TryGetable>(&self, column: &str) -> Result<T, StoreError> {
        Ok(self.0.try_get("", column)?)
    }

    pub(crate) fn id<T>(&self, column: &str, wrap: impl Fn(uuid::Uuid) -> T) -> Result<T, StoreError> {
        Ok(wrap(self.get(column)?))
    }

    pub(crate) fn maybe_id<T>(&self, column: &str, wrap: impl Fn(uuid::Uuid) -> T) -> Result<Option<T>, StoreError> {
        Ok(self.get::<Option<uuid::Uuid>>(column)?.map(wrap))
    }

    pub(crate) fn number(&self, column: &str) -> Result<u32, StoreError> {
        u32::try_from(self.get::<i64>(column)?).map_err(|_| unreadable(column))
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.get(column)?).map_err(|_| unreadable(column))
    }

    pub(crate) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(milliseconds) = self.get::<Option<i64>>(column)? else { return Ok(None) };
        Timestamp::from_millisecond(milliseconds).map(Some).map_err(|_| unreadable(column))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| unreadable(&format!("{column}: {error}")))
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let Some(text) = self.get::<Option<String>>(column)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| unreadable(&format!("{column}: {error}")))
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.get::<String>(column)?.parse().map_err(|_| unreadable(column))
    }
}

pub(crate) fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { what: what.to_owned() }
}

/// A value as JSON text. Only plain data is stored this way, which always has a JSON form.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_string(value).expect("stored values are plain data with string keys").into()
}

pub(crate) fn time(at: Timestamp) -> Value {
    at.as_millisecond().into()
}

pub(crate) fn maybe_time(at: Option<Timestamp>) -> Value {
    at.map(|at| at.as_millisecond()).into()
}
