//! Parquet: a table of calls, written in row groups.
//!
//! The columns are those of the Arrow batches of the Python package: `read start end strand kind
//! score model flags`, none of them nullable; the model is `name/version`, the flags are text as in
//! TSV. Labels are columns of text behind them. Scores are not rounded.
//!
//! A column is written whole before the next one, so the calls of a row group are held back: at
//! most [`ROWS`], whatever the length of a run. Only the footer says where row groups lie. A file
//! that was cut off before it cannot be read.

use crate::call::Call;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::Arc;

/// Most calls of a row group.
pub(super) const ROWS: usize = 65_536;

/// The calls that are held back, and the file so far.
#[derive(Debug)]
pub(super) struct Table {
    /// `name/version` of each model.
    models: Vec<String>,
    labels: Vec<(String, String)>,
    /// Names of the reads whose calls are held back, and of how many each.
    reads: Vec<(ByteArray, usize)>,
    calls: Vec<Call>,
    /// Its writer must be able to go to another thread, which not every output is. So it writes to
    /// memory, and what it wrote is passed on.
    file: Option<SerializedFileWriter<Vec<u8>>>,
}

impl Table {
    /// An empty table; [`Call::model`] indexes `models`.
    pub(super) fn new(models: &[String]) -> Table {
        Table {
            models: models.to_vec(),
            labels: vec![],
            reads: vec![],
            calls: vec![],
            file: None,
        }
    }

    /// Adds a column for each label, with its value in every row.
    pub(super) fn label(&mut self, labels: &[(String, String)]) {
        self.labels = labels.to_vec();
    }

    /// Takes a call; writes a row group when it is full.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, name: &str, call: &Call) -> io::Result<()> {
        match self.reads.last_mut() {
            Some((read, count)) if read.data() == name.as_bytes() => *count += 1,
            _ => self.reads.push((name.into(), 1)),
        }
        self.calls.push(*call);
        if self.calls.len() == ROWS {
            self.write(out)?;
        }
        Ok(())
    }

    /// Writes what is held back, and the footer.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.write(out)?;
        let file = self.file()?;
        file.finish()?;
        out.append(file.inner_mut());
        Ok(())
    }

    /// Writes the calls that are held back as a row group.
    fn write(&mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let calls = std::mem::take(&mut self.calls);
        let names = std::mem::take(&mut self.reads).into_iter();
        let names = names.flat_map(|(name, count)| std::iter::repeat_n(name, count));
        let names: Vec<ByteArray> = names.collect();
        let (models, labels) = (self.models.clone(), self.labels.clone());
        let file = self.file()?;
        let mut group = file.next_row_group()?;
        let each = || calls.iter();
        let places = |of: fn(&Call) -> u64| -> Vec<i64> {
            // Unsigned numbers are stored by their bits.
            each().map(|call| of(call) as i64).collect()
        };
        let scores: Vec<f32> = each().map(|call| call.score).collect();
        let model = |call: &Call| usize::from(call.model);
        column::<ByteArrayType>(&mut group, &names)?;
        column::<Int64Type>(&mut group, &places(|call| call.start))?;
        column::<Int64Type>(&mut group, &places(|call| call.end))?;
        texts(&mut group, each().map(|c| c.strand), |s| s.to_string())?;
        texts(&mut group, each().map(|c| c.kind), |k| k.to_string())?;
        column::<FloatType>(&mut group, &scores)?;
        texts(&mut group, each().map(model), |m| models[m].clone())?;
        texts(&mut group, each().map(|c| c.flags), |f| f.to_string())?;
        for (_, value) in &labels {
            texts(&mut group, each().map(|_| ()), |()| value.clone())?;
        }
        group.close()?;
        file.flush()?;
        out.append(file.inner_mut());
        self.calls = calls;
        self.calls.clear();
        Ok(())
    }

    /// The file, which begins with the first row group.
    fn file(&mut self) -> Result<&mut SerializedFileWriter<Vec<u8>>, ParquetError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let schema = Arc::new(schema(&self.labels)?);
                SerializedFileWriter::new(vec![], schema, Arc::new(properties()))?
            }
        };
        Ok(self.file.insert(file))
    }
}

/// What the columns are.
fn schema(labels: &[(String, String)]) -> Result<Type, ParquetError> {
    let column = |name: &str, physical, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let text = |name| column(name, Physical::BYTE_ARRAY, Some(LogicalType::String));
    let unsigned = LogicalType::integer(64, false);
    let place = |name| column(name, Physical::INT64, Some(unsigned.clone()));
    let mut columns = vec![
        text("read")?,
        place("start")?,
        place("end")?,
        text("strand")?,
        text("kind")?,
        column("score", Physical::FLOAT, None)?,
        text("model")?,
        text("flags")?,
    ];
    for (key, _) in labels {
        columns.push(text(key)?);
    }
    Type::group_type_builder("calls")
        .with_fields(columns)
        .build()
}

/// How columns are stored.
fn properties() -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        // Of row groups: those of pages are held back to the end of the file.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    // Numbers that do not repeat are no shorter with a dictionary.
    let numbers = ["start", "end", "score"].into_iter();
    let properties = numbers.fold(properties, |properties, name| {
        properties.set_column_dictionary_enabled(ColumnPath::from(name), false)
    });
    properties.build()
}

/// Writes the next column of a row group.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("internal error: no such column".to_string());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    let writer: &mut ColumnWriterImpl<'_, T> = column.typed();
    writer.write_batch(values, None, None)?;
    column.close()
}

/// Writes the next column, of texts that few keys stand for.
fn texts<K: Copy + Eq + Hash>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    keys: impl Iterator<Item = K>,
    text: impl Fn(K) -> String,
) -> Result<(), ParquetError> {
    let mut known = HashMap::new();
    let values: Vec<ByteArray> = keys
        .map(|key| {
            let text = || ByteArray::from(text(key).into_bytes());
            known.entry(key).or_insert_with(text).clone()
        })
        .collect();
    column::<ByteArrayType>(group, &values)
}

#[cfg(test)]
mod tests;
