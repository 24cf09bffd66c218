//! Nothing secret is shown.

use super::sign::{Signer, at, key, sign};
use super::support::{Server, Temporary, check, command, run};
use super::{get, handshake, publish};

const KEYS: [&str; 5] = ["tokens", "publish_tokens", "stats_tokens", "metrics_tokens", "jwt_secret"];

#[test]
fn the_log_holds_no_token() {
    let secrets = ["hushed-receive-token", "hushed-publish-token", "hushed-secret-of-more-than-32-characters"];
    let mut command = command(&["--listen", "127.0.0.1:0", "--source", "none", "--log", "trace"]);
    command.env("TICKCAST_AUTH_TOKENS", secrets[0]).env("TICKCAST_AUTH_PUBLISH_TOKENS", secrets[1]);
    command.env("TICKCAST_AUTH_JWT_SECRET", secrets[2]);
    let mut server = Server::spawn(command);
    let jwt = sign(&serde_json::json!({ "exp": at(60), "channels": [] }), Signer::Hs256(secrets[2].as_bytes()));
    let mut answers = Vec::new();
    for token in [secrets[0], secrets[1], &jwt, "hushed-wrong-token", "hushed%20wrong%0Atoken"] {
        let bearer = format!("Bearer {token}");
        let subprotocol = format!("tickcast, bearer.{token}");
        for path in ["/ws/market", "/ws/nothing", "/snapshot/market", "/nothing", "/stats"] {
            answers.push(handshake(&server, path, &[("authorization", &bearer)]));
            answers.push(handshake(&server, path, &[("sec-websocket-protocol", &subprotocol)]));
            answers.push(get(&server, &format!("{path}?token={token}"), &[]));
        }
        answers.push(publish(&server, &format!("/publish/market?token={token}"), &[]));
        answers.push(publish(&server, "/publish/b%20d", &[("authorization", &bearer)]));
    }
    server.signal("-TERM");
    server.wait();
    let log = server.rest_of_log();
    assert!(log.contains("refused: ") && log.contains("stopped"), "{log}");
    for shown in answers.iter().map(|answer| answer.head.clone() + &answer.text()).chain([log]) {
        assert!(!shown.contains("hushed") && !shown.contains(&jwt), "{shown}");
    }
}

#[test]
fn check_config_hides_secrets_and_says_so() {
    let secrets = Temporary::new("list", "# tokens of the desks\nhushed-one\nhushed-two\n");
    let file = format!("file:{}", secrets.path());
    for name in KEYS {
        let flag = format!("--auth-{}", name.replace('_', "-"));
        let env = format!("TICKCAST_AUTH_{}", name.to_uppercase());
        let toml = Temporary::new(&format!("{name}.toml"), &format!("[auth]\n{name} = [\"hushed-3\", \"{file}\"]\n"));
        let value = format!("hushed-3,{file}");
        for (arguments, environment) in [
            (vec![flag.as_str(), value.as_str()], vec![]),
            (vec![], vec![(env.as_str(), value.as_str())]),
            (vec!["--config", toml.path()], vec![]),
        ] {
            let (status, text, errors) = check(&arguments, &environment);
            assert_eq!((status, &*errors), (Some(0), ""));
            let line = text.lines().find(|line| line.starts_with(&format!("{name} = "))).expect("the key");
            assert!(line.starts_with(&format!("{name} = [\"***\", \"{file}\"] # *** is a secret")), "{line}");
            assert!(!text.contains("hushed"), "{text}");
            // What is shown instead of a secret is not taken for one.
            let shown = Temporary::new("shown.toml", &text);
            let (status, stdout, stderr) = check(&["--config", shown.path()], &[]);
            assert_eq!((status, &*stdout), (Some(2), ""));
            assert!(stderr.contains(&format!("`auth.{name}`")) && stderr.contains("check-config shows"), "{stderr}");
        }
        // Secrets in files leave a configuration that can be read back.
        let (_, text, _) = check(&[&flag, &file], &[]);
        let shown = Temporary::new("shown.toml", &text);
        assert_eq!(check(&["--config", shown.path()], &[]), (Some(0), text, String::new()));
    }
}

#[test]
fn a_mistake_in_a_secret_does_not_show_it() {
    let (missing, empty) = ("file:/nonexistent/tokens", Temporary::new("empty", "\n# nothing\n"));
    let spaced = Temporary::new("spaced", "hushed with spaces\n");
    for name in KEYS {
        let flag = format!("--auth-{}", name.replace('_', "-"));
        let env = format!("TICKCAST_AUTH_{}", name.to_uppercase());
        for (value, words) in [
            ("hushed with spaces", "printable ASCII"),
            ("hushed-ü", "printable ASCII"),
            (missing, "/nonexistent/tokens: No such file"),
            (&format!("file:{}", empty.path()), "has none"),
            (&format!("file:{}", spaced.path()), "printable ASCII"),
        ] {
            let quoted = format!("{value:?}");
            let toml = Temporary::new("mistake.toml", &format!("[auth]\n{name} = {quoted}\n"));
            for (arguments, environment) in [
                (vec![flag.as_str(), value], vec![]),
                (vec![], vec![(env.as_str(), value)]),
                (vec!["--config", toml.path()], vec![]),
            ] {
                let (status, stdout, stderr) = check(&arguments, &environment);
                assert_eq!((status, &*stdout), (Some(2), ""), "{name} {value}");
                assert!(stderr.contains(&format!("`auth.{name}` = ***")) && stderr.contains(words), "{stderr}");
                assert!(!stderr.contains("hushed"), "{stderr}");
            }
        }
        let toml = Temporary::new("number.toml", &format!("[auth]\n{name} = 12345678\n"));
        let (_, _, stderr) = check(&["--config", toml.path()], &[]);
        assert!(stderr.contains("a list of texts") && !stderr.contains("12345678"), "{stderr}");
    }
    for arguments in [["--auth-token", "hushed"], ["--auth-jwt-secrets", "hushed"]] {
        let (status, _, stderr) = check(&arguments, &[]);
        assert_eq!(status, Some(2));
        assert!(!stderr.contains("hushed"), "{stderr}");
    }
    let mut command = command(&["check-config"]);
    let not_utf8 = std::os::unix::ffi::OsStrExt::from_bytes(b"hushed\xff".as_slice());
    let not_utf8: &std::ffi::OsStr = not_utf8;
    command.env("TICKCAST_AUTH_TOKENS", not_utf8);
    let (status, _, stderr) = run(command);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("TICKCAST_AUTH_TOKENS is not UTF-8") && !stderr.contains("hushed"), "{stderr}");
}

#[test]
fn a_key_that_is_none_is_told_why() {
    for (file, words) in [
        (key("ed25519.pem"), "openssl pkey"),
        (key("ec.pub.pem"), "neither of RSA nor of Ed25519"),
        (key("rsa1024.pub.pem"), "2048"),
        ("/nonexistent/key.pem".to_owned(), "No such file"),
    ] {
        let (status, _, stderr) = check(&["--auth-jwt-public-key", &file], &[]);
        assert_eq!(status, Some(2));
        assert!(stderr.contains(&file) && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn short_secrets_are_warned_of() {
    let mut command = command(&["--listen", "127.0.0.1:0", "--source", "none"]);
    command.env("TICKCAST_AUTH_JWT_SECRET", "hushed");
    let mut server = Server::spawn(command);
    let line = server.wait_for_line("auth.jwt_secret");
    assert!(line.contains("32 characters") && !line.contains("hushed"), "{line}");
}
