//! `[cluster]`: what is understood, and what is said about mistakes.

use super::support::{Temporary, check};

#[test]
fn what_is_set_reads_back() {
    let arguments = [
        "--cluster-url",
        "nats://10.0.0.1:4222,tls://bus.example:4443",
        "--cluster-role",
        "origin",
        "--cluster-lease",
        "1500ms",
    ];
    let environment = [("TICKCAST_CLUSTER_SUBJECT", "desks-7"), ("TICKCAST_CLUSTER_NAME", "north")];
    let (status, text, errors) = check(&arguments, &environment);
    assert_eq!((status, &*errors), (Some(0), ""));
    let table = text.split("[cluster]\n").nth(1).expect("a table");
    for line in [
        "role = \"origin\"",
        "lease = 1.5",
        "subject = \"desks-7\"",
        "name = \"north\"",
        "replicas = 1",
        "publish_timeout = 2.0",
    ] {
        assert!(table.lines().any(|other| other == line), "no line {line} in\n{text}");
    }
    assert!(table.contains("nats://10.0.0.1:4222") && table.contains("tls://bus.example:4443"), "{text}");
    let file = Temporary::new("cluster.toml", &text);
    assert_eq!(check(&["--config", file.path()], &[]), (Some(0), text, String::new()));
}

#[test]
fn mistakes_are_named() {
    for (key, value, words) in [
        ("url", "\"http://127.0.0.1:4222\"", vec!["http://127.0.0.1:4222", "nats://"]),
        ("url", "\"nats://\"", vec!["nats://"]),
        ("url", "\"nats://127.0.0.1:port\"", vec!["nats://127.0.0.1:port"]),
        ("url", "4222", vec!["4222", "a list of texts"]),
        ("subject", "\"a b\"", vec!["\"a b\""]),
        ("subject", "\"a.*\"", vec!["\"a.*\""]),
        ("subject", "\">\"", vec!["\">\""]),
        ("subject", "\"\"", vec!["\"\""]),
        ("subject", "\"$JS\"", vec!["\"$JS\""]),
        ("subject", "\"desk-publish\"", vec!["\"desk-publish\""]),
        ("role", "\"leader\"", vec!["\"leader\"", "origin", "edge"]),
        ("lease", "0", vec!["= 0", "seconds from"]),
        ("lease", "\"2s\"", vec!["\"2s\"", "seconds from"]),
        ("replicas", "0", vec!["= 0", "a whole number from 1"]),
        ("replicas", "6", vec!["= 6", "to 5"]),
        ("publish_timeout", "-1", vec!["= -1", "seconds from"]),
        ("leese", "1", vec!["unknown key `cluster.leese`", "did you mean `cluster.lease`?"]),
    ] {
        let file = Temporary::new(
            "mistake-of-cluster.toml",
            &format!(
                "[cluster]\n{}{key} = {value}\n",
                if key == "url" { "" } else { "url = \"nats://127.0.0.1:4222\"\n" }
            ),
        );
        let (status, stdout, stderr) = check(&["--config", file.path()], &[]);
        assert_eq!((status, &*stdout), (Some(2), ""), "{key} = {value}: {stderr}");
        for word in words.into_iter().chain([&*format!("cluster.{key}"), file.path()]) {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
    }
}

/// Half of what belongs together, or what cannot be read, is a mistake that is told at once.
#[test]
fn what_belongs_together_is_asked_for() {
    let url = ["--cluster-url", "nats://127.0.0.1:4222"];
    for (arguments, words) in [
        (vec!["--cluster-user", "desk"], ["`user`", "`password`"]),
        (vec!["--cluster-password", "hushed"], ["`user`", "`password`"]),
        (vec!["--cluster-cert", "/etc/hosts"], ["`cert`", "`key`"]),
        (vec!["--cluster-user", "a", "--cluster-password", "b", "--cluster-token", "c"], ["`user`", "`token`"]),
        (vec!["--cluster-ca", "/nonexistent/ca.pem"], ["/nonexistent/ca.pem", "No such file"]),
        (vec!["--cluster-credentials", "/nonexistent/x.creds"], ["/nonexistent/x.creds", "No such file"]),
    ] {
        let (status, stdout, stderr) = check(&[&url[..], &arguments].concat(), &[]);
        assert_eq!((status, &*stdout), (Some(2), ""), "{arguments:?}: {stderr}");
        for word in words.into_iter().chain(["[cluster]"]) {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
        assert!(!stderr.contains("hushed"), "{stderr}");
    }
}

#[test]
fn without_an_address_there_is_no_cluster() {
    let server = super::support::Server::start(&["--source", "none"]);
    assert_eq!(server.get("/stats").json()["cluster"], serde_json::Value::Null);
    assert_eq!(server.get("/readyz").status, 200);
    server.say("desk", "hello");
}
