//! A CSV file with a header, plain or gzipped, read row by row.

use csv::{Reader, StringRecord};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

/// Most bytes shown of a field that is wrong.
const SHOWN_MAX: usize = 64;

/// Why a trace cannot be read. All of these are for the person who chose the file.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("opening trace {path}: {source}")]
    Open {
        /// The file.
        path: Box<str>,
        /// The cause.
        source: io::Error,
    },
    /// It can be opened but not read as CSV.
    #[error("{path}: reading line {line}: {source}")]
    Csv {
        /// The file.
        path: Box<str>,
        /// The line, from 1; 0 when the reader does not know it.
        line: u64,
        /// The cause.
        source: csv::Error,
    },
    /// The header lacks a column.
    #[error("{path}: line 1: no column {column:?}: expected a header with {expected}")]
    Header {
        /// The file.
        path: Box<str>,
        /// The missing column.
        column: &'static str,
        /// All columns that are needed.
        expected: String,
    },
    /// A field is malformed.
    #[error("{path}: line {line}: column {column:?} is {found:?}: expected {expected}")]
    Field {
        /// The file.
        path: Box<str>,
        /// The line, from 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What is there, cut to 64 bytes.
        found: Box<str>,
        /// What would be right.
        expected: &'static str,
    },
}

/// An open file: an iterator over the rows that `parse` makes of its records.
pub(super) struct Table<T> {
    path: Box<str>,
    reader: Reader<Box<dyn Read + Send>>,
    columns: &'static [&'static str],
    /// Where each of `columns` is in the file.
    places: Vec<Option<usize>>,
    record: StringRecord,
    number: u64,
    parse: fn(&Row<'_>) -> Result<T, TraceError>,
    failed: bool,
}

impl<T> Table<T> {
    /// Opens `path`, which has all of `columns`.
    pub(super) fn open(
        path: &Path,
        columns: &'static [&'static str],
        parse: fn(&Row<'_>) -> Result<T, TraceError>,
    ) -> Result<Self, TraceError> {
        Self::read(&path.display().to_string(), open(path)?, columns, parse)
    }

    /// Reads from anything; `path` is how errors call it.
    pub(super) fn read(
        path: &str,
        input: Box<dyn Read + Send>,
        columns: &'static [&'static str],
        parse: fn(&Row<'_>) -> Result<T, TraceError>,
    ) -> Result<Self, TraceError> {
        Self::read_some(path, input, columns, columns.len(), parse)
    }

    /// As [`Self::read`], where only the first `required` of `columns` need be there. A field of a
    /// column that is not there is empty.
    pub(super) fn read_some(
        path: &str,
        input: Box<dyn Read + Send>,
        columns: &'static [&'static str],
        required: usize,
        parse: fn(&Row<'_>) -> Result<T, TraceError>,
    ) -> Result<Self, TraceError> {
        let mut reader = Reader::from_reader(input);
        let header = reader.headers().map_err(|source| csv_error(path, source))?;
        let place = |column: &&'static str| header.iter().position(|name| name == *column);
        let places: Vec<Option<usize>> = columns.iter().map(place).collect();
        if let Some(lacking) = places[..required].iter().position(Option::is_none) {
            return Err(TraceError::Header {
                path: path.into(),
                column: columns[lacking],
                expected: columns[..required].join(","),
            });
        }
        let record = StringRecord::new();
        let path = path.into();
        Ok(Self { path, reader, columns, places, record, number: 0, parse, failed: false })
    }
}

/// Opens `path`; a gzipped file is recognised by its first bytes.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read + Send>, TraceError> {
    let shown: Box<str> = path.display().to_string().into();
    let failed = |source| TraceError::Open { path: shown.clone(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let zipped = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    Ok(if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The names of the columns of a file, in their order.
///
/// # Errors
/// A file that cannot be opened or is no CSV.
pub fn columns(path: &Path) -> Result<Vec<String>, TraceError> {
    let mut reader = Reader::from_reader(open(path)?);
    let shown = path.display().to_string();
    let header = reader.headers().map_err(|source| csv_error(&shown, source))?;
    Ok(header.iter().map(str::to_owned).collect())
}

impl<T> Iterator for Table<T> {
    type Item = Result<T, TraceError>;

    /// The next row; nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = match self.reader.read_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => {
                self.number += 1;
                (self.parse)(&Row {
                    path: &self.path,
                    columns: self.columns,
                    places: &self.places,
                    record: &self.record,
                    number: self.number,
                })
            }
            Err(source) => Err(csv_error(&self.path, source)),
        };
        self.failed = row.is_err();
        Some(row)
    }
}

fn csv_error(path: &str, source: csv::Error) -> TraceError {
    let line = source.position().map_or(0, csv::Position::line);
    TraceError::Csv { path: path.into(), line, source }
}

/// One record, by the places of the columns asked for.
pub(super) struct Row<'a> {
    path: &'a str,
    columns: &'static [&'static str],
    places: &'a [Option<usize>],
    record: &'a StringRecord,
    /// From 1, the header not counted.
    pub(super) number: u64,
}

impl Row<'_> {
    /// The text of a column; the reader has checked that each record is as long as the header.
    pub(super) fn text(&self, column: usize) -> &str {
        self.places[column].and_then(|place| self.record.get(place)).unwrap_or_default()
    }

    /// The text of a column that may be absent or empty.
    pub(super) fn given(&self, column: usize) -> Option<&str> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    pub(super) fn number<N: FromStr>(
        &self,
        column: usize,
        expected: &'static str,
    ) -> Result<N, TraceError> {
        self.text(column).parse().map_err(|_| self.malformed(column, expected))
    }

    pub(super) fn malformed(&self, column: usize, expected: &'static str) -> TraceError {
        let line = self.record.position().map_or(0, csv::Position::line);
        field_error(self.path, line, (self.columns[column], self.text(column)), expected)
    }
}

/// That a field is malformed; what was found is cut.
pub(super) fn field_error(
    path: &str,
    line: u64,
    (column, found): (&'static str, &str),
    expected: &'static str,
) -> TraceError {
    let found = found[..found.floor_char_boundary(SHOWN_MAX)].into();
    TraceError::Field { path: path.into(), line, column, found, expected }
}
