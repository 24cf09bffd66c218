//! Layers of configuration, put together.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secret::HIDDEN;
use super::value::{Expected, Raw};
use super::{Config, Key};

/// `source = "…"` and a table `[source]` cannot both be in one file: in the table, the same key is this.
const SOURCE_IN_TABLE: &str = "source.kind";

/// Where in a file that has every key a key stands.
pub(super) fn place(key: &'static str) -> &'static str {
    if key == "source" { SOURCE_IN_TABLE } else { key }
}

/// Where configuration may come from, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; unknown ones are ignored, as an environment is never ours alone.
    pub environment: Vec<(String, String)>,
    /// Flags without their dashes, and values.
    pub arguments: Vec<(&'static str, String)>,
}

/// Where a value stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, on a line.
    File(PathBuf, usize),
    /// In an environment variable.
    Environment(&'static str),
    /// Behind a flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {0}: {1}", path.display(), reason)]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's word for it.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{0}, line {line}: not valid TOML: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// The file has a key that does not exist.
    #[error("{origin}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The closest key there is, or all of them.
        hint: String,
    },
    /// A value is of the wrong type or out of range.
    #[error("{origin}: `{key}` = {value} is not valid: expected {expected}")]
    Invalid {
        /// The key, dotted.
        key: &'static str,
        /// The value as it was written; `***` for a secret.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What would have been right.
        expected: Expected,
    },
}

impl Config {
    /// Puts the layers together.
    ///
    /// # Errors
    /// The first thing that is not understood, see [`ConfigError`].
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = &layers.file {
            config.apply_file(path)?;
        }
        for key in Key::all() {
            if let Some((_, text)) = layers.environment.iter().find(|(name, _)| name == key.env) {
                config.apply(key, Raw::Environment(text), || Origin::Environment(key.env))?;
            }
        }
        for key in Key::all() {
            if let Some((_, text)) = layers.arguments.iter().find(|(flag, _)| *flag == key.flag) {
                config.apply(key, Raw::Argument(text), || Origin::Flag(key.flag))?;
            }
        }
        Ok(config)
    }

    fn apply(&mut self, key: &Key, raw: Raw<'_>, origin: impl Fn() -> Origin) -> Result<(), ConfigError> {
        (key.set)(self, raw).map_err(|expected| {
            let shown = raw.show();
            // An address may have a password in it, and a list several of them.
            let is_secret = key.secret || (key.file == "cluster.url" && shown.contains('@'));
            let value = if is_secret { HIDDEN.to_owned() } else { shown };
            ConfigError::Invalid { key: key.file, value, origin: origin(), expected }
        })
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
        let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        let mut found = Vec::new();
        flatten(table.get_ref(), "", &mut found);
        for (name, value) in found {
            let origin = || Origin::File(path.to_owned(), line(value.span().start));
            let Some(key) = Key::all().find(|key| key.file == name || place(key.file) == name) else {
                let hint = suggest(&name);
                return Err(ConfigError::UnknownKey { key: name, origin: origin(), hint });
            };
            self.apply(key, Raw::File(value.get_ref()), origin)?;
        }
        Ok(())
    }
}

/// All leaves of a table with their dotted names. A table in which no key can be is a leaf, so that
/// it is reported as an unknown key or a wrong type.
fn flatten<'a, 'i>(table: &'a DeTable<'i>, prefix: &str, found: &mut Vec<(String, &'a Spanned<DeValue<'i>>)>) {
    for (name, value) in table {
        let name = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if Key::all().any(|key| key.file.starts_with(&format!("{name}."))) => {
                flatten(inner, &format!("{name}."), found);
            }
            _ => found.push((name, value)),
        }
    }
}

/// The key somebody probably meant: the same last part, or the most letters in common.
fn suggest(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let alike = Key::all().find(|key| {
        let known = key.file.rsplit('.').next().unwrap_or(key.file);
        known == last || key.flag == last.replace('_', "-") || distance(known, last) <= last.len().min(known.len()) / 3
    });
    match alike {
        Some(key) => format!("did you mean `{}`?", key.file),
        None => format!("known keys: {}", Key::all().map(|key| key.file).collect::<Vec<_>>().join(", ")),
    }
}

/// Edit distance (Levenshtein) of two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}
