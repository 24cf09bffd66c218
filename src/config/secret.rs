//! Secrets: read from anywhere a value may stand, or from a file, and never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::{self, Expected, Raw};

/// Stands where a secret would.
pub(super) const HIDDEN: &str = "***";

/// Something nobody may see. No way of printing it shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// The file it was read from, if it was.
    file: Option<PathBuf>,
}

impl Secret {
    /// What it is, for the one place that compares or signs with it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), file: None }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Several secrets. An item `file:PATH` stands for the lines of that file, without empty ones and those
/// that begin with `#`.
pub(super) fn secrets(raw: Raw<'_>) -> Result<Vec<Secret>, Expected> {
    let items = value::list(raw, |item| match item.strip_prefix("file:") {
        Some(path) => read(Path::new(path)),
        None => Ok(vec![check(item)?]),
    })?;
    let secrets: Vec<_> = items.into_iter().flatten().collect();
    // A variable that was to hold one and is empty must not open what it was to close.
    match raw {
        Raw::Environment(_) | Raw::Argument(_) if secrets.is_empty() => {
            Err("a secret or file:PATH; leave it out to have none".to_owned())
        }
        _ => Ok(secrets),
    }
}

fn read(path: &Path) -> Result<Vec<Secret>, Expected> {
    let at = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("a file that can be read; {at}: {error}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<_> = lines
        .map(|line| {
            Ok(Secret { file: Some(path.to_owned()), ..check(line).map_err(|what| format!("{what}; in {at}"))? })
        })
        .collect::<Result<_, Expected>>()?;
    if secrets.is_empty() { Err(format!("a file with a secret a line; {at} has none")) } else { Ok(secrets) }
}

fn check(text: &str) -> Result<Secret, Expected> {
    if text == HIDDEN {
        return Err(format!("the secret or file:PATH: {HIDDEN} is what check-config shows instead of one"));
    }
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    good.then(|| Secret::from(text)).ok_or_else(|| "printable ASCII without spaces and commas, or file:PATH".to_owned())
}

/// As TOML: files by name, and `***` for what stood in the configuration itself.
pub(super) fn show(secrets: &[Secret]) -> String {
    let mut items: Vec<String> = secrets
        .iter()
        .map(|secret| secret.file.as_ref().map_or(HIDDEN.to_owned(), |path| format!("file:{}", path.display())))
        .collect();
    items.dedup_by(|next, item| next != HIDDEN && next == item);
    let hidden = items.iter().any(|item| item == HIDDEN);
    let note = if hidden { " # *** is a secret that is not shown: put it back, or file:PATH" } else { "" };
    format!("{}{note}", value::show_list(&items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", vec![&secret]), "*** [\n    ***,\n]");
        assert_eq!(secret.expose(), "hunter2");
        assert!(show(&[secret]).starts_with("[\"***\"] #"));
    }

    #[test]
    fn secrets_come_from_text_and_files() {
        let path = std::env::temp_dir().join(format!("tickcast-secrets-{}", std::process::id()));
        std::fs::write(&path, "# of the desk\none\n\n two \n").expect("written");
        let text = format!("zero, file:{}", path.display());
        let read = secrets(Raw::Environment(&text)).expect("secrets");
        assert_eq!(read.iter().map(Secret::expose).collect::<Vec<_>>(), ["zero", "one", "two"]);
        assert!(show(&read).starts_with(&format!("[\"***\", \"file:{}\"]", path.display())), "{}", show(&read));
        std::fs::write(&path, "# none\n").expect("written");
        assert!(secrets(Raw::Environment(&text)).expect_err("none").contains("has none"));
        std::fs::write(&path, "with space\n").expect("written");
        let error = secrets(Raw::Environment(&text)).expect_err("a space");
        assert!(error.contains("printable ASCII") && !error.contains("with space"), "{error}");
        std::fs::remove_file(&path).expect("removed");
        assert!(secrets(Raw::Environment(&text)).expect_err("no file").contains("No such file"));
        for empty in ["", " ", ",", " , "] {
            assert!(secrets(Raw::Environment(empty)).is_err() && secrets(Raw::Argument(empty)).is_err(), "{empty:?}");
        }
        assert!(secrets(Raw::Environment("***")).expect_err("hidden").contains("check-config"));
    }
}
