//! Configuration files, environments and command lines through the loader: an error names key and place, and
//! what loads prints as a file that loads to the same.
//!
//! An input is a TOML file; after a first NUL byte come further layers, one a line: `--flag=value` of a command
//! line, or `NAME=value` of an environment.

use tickcast::Config;
use tickcast::config::{ConfigError, Key, Layers, Origin};

use super::scratch::Scratch;

/// Loads one input.
pub fn run(data: &[u8]) {
    let nul = data.iter().position(|byte| *byte == 0);
    let (file, rest) = nul.map_or((data, &b""[..]), |nul| (&data[..nul], &data[nul + 1..]));
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let mut layers = Layers::default();
    for line in rest.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        if let Some(key) = Key::all().find(|key| name.strip_prefix("--") == Some(key.flag)) {
            layers.arguments.push((key.flag, value.to_owned()));
        } else {
            layers.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    if looks_up_a_name(file, &layers) {
        return;
    }
    let loaded = load(file, &mut layers);
    match &loaded {
        Ok(config) => {
            let text = config.to_toml();
            let again = load(text.as_bytes(), &mut Layers::default());
            assert_eq!(again.as_ref(), Ok(config), "{text}");
            assert_eq!(again.map(|config| config.to_toml()), Ok(text));
        }
        Err(error) => {
            check(error, file);
            // Whatever comes behind a mistake in the file, it is the file's that is told.
            if nul.is_some() && !matches!(error, ConfigError::Invalid { .. }) {
                assert_eq!(load(file, &mut Layers::default()).as_ref(), Err(error));
            }
        }
    }
}

/// Whether loading would ask the resolver for a host: that would fuzz somebody else's name server.
fn looks_up_a_name(file: &[u8], layers: &Layers) -> bool {
    let is_name = |text: &str| {
        let text = text.trim();
        text.parse::<std::net::SocketAddr>().is_err()
            && text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    let table = std::str::from_utf8(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| table.get("listen").and_then(|listen| listen.as_str()).is_some_and(is_name))
        || layers.arguments.iter().any(|(flag, value)| *flag == "listen" && is_name(value))
        || layers.environment.iter().any(|(name, value)| name == "TICKCAST_LISTEN" && is_name(value))
}

/// Loads `file` under `layers`, by way of the file system like everybody.
fn load(file: &[u8], layers: &mut Layers) -> Result<Config, ConfigError> {
    let file = Scratch::new("toml", file);
    layers.file = Some(file.path().to_owned());
    Config::load(layers)
}

/// An error says where it is and what is wrong.
fn check(error: &ConfigError, file: &[u8]) {
    let told = error.to_string();
    let lines = 1 + file.iter().filter(|byte| **byte == b'\n').count();
    let line_is_there = |line: usize| assert!((1..=lines).contains(&line), "line {line} of {lines}: {told}");
    let origin = match error {
        ConfigError::Unreadable { .. } => {
            assert!(std::str::from_utf8(file).is_err(), "{told}");
            return;
        }
        ConfigError::Syntax { line, reason, .. } => {
            assert!(!reason.is_empty(), "{told}");
            return line_is_there(*line);
        }
        ConfigError::UnknownKey { key, origin, hint } => {
            assert!(Key::all().all(|known| known.file != key), "{told}");
            assert!(told.contains(&format!("`{key}`")) && told.contains(hint), "{told}");
            origin
        }
        ConfigError::Invalid { key, value, origin, expected } => {
            assert!(Key::all().any(|known| known.file == *key), "{told}");
            assert!(told.contains(&format!("`{key}` = {value} ")) && told.contains(expected), "{told}");
            origin
        }
    };
    assert!(told.starts_with(&origin.to_string()), "{told}");
    if let Origin::File(_, line) = origin {
        line_is_there(*line);
    }
}
