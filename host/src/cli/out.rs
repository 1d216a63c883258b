//! Where lines of an export go: the standard output or a file.
//!
//! A reader that has seen enough (`| head`) is no error. A file is only put in its place once it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// An export in the making.
pub(super) struct Lines {
    to: Box<dyn Write>,
    /// The file in the making, and the name it gets.
    file: Option<(PathBuf, PathBuf)>,
    /// Lines so far.
    pub(super) count: u64,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinesError {
    /// Whoever reads has seen enough.
    #[error("the reader has gone")]
    Enough,
    /// It cannot be written.
    #[error("cannot write {}: {cause}", to.display())]
    Write {
        /// Where.
        to: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl Lines {
    /// To a file, or to the standard output.
    pub(super) fn to(path: Option<&Path>) -> Result<Self, LinesError> {
        let Some(path) = path else {
            let to = Box::new(BufWriter::with_capacity(64 << 10, io::stdout()));
            return Ok(Self { to, file: None, count: 0 });
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|cause| LinesError::Write { to: part.clone(), cause })?;
        let to = Box::new(BufWriter::with_capacity(64 << 10, file));
        Ok(Self { to, file: Some((part, path.to_owned())), count: 0 })
    }

    /// Appends a line.
    pub(super) fn line(&mut self, line: &impl Serialize) -> Result<(), LinesError> {
        let written = serde_json::to_writer(&mut self.to, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.to.write_all(b"\n"));
        self.count += 1;
        self.told(written)
    }

    /// Writes out what is left.
    pub(super) fn finish(mut self) -> Result<u64, LinesError> {
        let written = self.to.flush();
        self.told(written)?;
        if let Some((part, path)) = &self.file {
            let renamed = std::fs::rename(part, path);
            self.told(renamed)?;
        }
        Ok(self.count)
    }

    fn told(&self, written: io::Result<()>) -> Result<(), LinesError> {
        written.map_err(|cause| match (&self.file, cause.kind()) {
            (None, io::ErrorKind::BrokenPipe) => LinesError::Enough,
            (None, _) => LinesError::Write { to: "the standard output".into(), cause },
            (Some((part, _)), _) => LinesError::Write { to: part.clone(), cause },
        })
    }
}
