use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::layers::{DEFAULTS, WITHOUT_DEFAULT, known_keys};
use super::{Binary, BusBackend, Config, ConfigError, StoreConfig};

/// Digits only: a guessing parser would make it a number.
const SECRET: &str = "01234567890123456789012345678901";

fn load(binary: Binary, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_from(binary, None, variables)
}

fn problems(binary: Binary, variables: &[(&str, &str)]) -> String {
    load(binary, variables).unwrap_err().to_string()
}

/// A file that is gone when the test ends.
struct TempFile(PathBuf);

impl TempFile {
    fn with(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidings-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load_from(Binary::Standalone, Some(&self.0), variables)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

const SERVICE: &[(&str, &str)] = &[
    ("TIDINGS__STORE__KIND", "mongodb"),
    ("TIDINGS__STORE__URL", "mongodb://app:hunter2@db/tidings"),
    ("TIDINGS__BUS__KIND", "rabbitmq"),
    ("TIDINGS__BUS__URLS", "amqp://app:hunter2@mq"),
    ("TIDINGS__PRESENCE__KIND", "redis"),
    ("TIDINGS__PRESENCE__URL", "redis://:hunter2@cache"),
    ("TIDINGS__AUTH__SECRET", SECRET),
];

#[test]
fn the_effective_defaults_are_as_documented() {
    let effective = load(Binary::Standalone, &[]).unwrap().effective();
    let golden = include_str!("effective.golden.toml");
    assert_eq!(effective, golden, "got:\n{effective}");
}

#[test]
fn the_effective_settings_load_again_to_themselves() {
    let config = load(
        Binary::Standalone,
        &[("TIDINGS__WS__ORIGINS", "https://a.example")],
    );
    let effective = config.unwrap().effective();
    let again = TempFile::with(&effective).load(&[]).unwrap();
    assert_eq!(again.effective(), effective);
}

#[test]
fn every_key_stands_in_the_reference() {
    for key in WITHOUT_DEFAULT {
        let name = key.rsplit('.').next().unwrap();
        assert!(DEFAULTS.contains(&format!("\n# {name} = ")), "{key}");
    }
    let effective: toml::Table = load(Binary::Standalone, &[])
        .unwrap()
        .effective()
        .parse()
        .unwrap();
    for (section, value) in &effective {
        for name in value.as_table().into_iter().flat_map(toml::Table::keys) {
            assert!(
                known_keys().contains(&format!("{section}.{name}")),
                "{name}"
            );
        }
    }
}

#[test]
fn a_number_a_list_and_a_secret_of_digits_arrive_unchanged() {
    let config = load(
        Binary::Standalone,
        &[
            ("TIDINGS__FANOUT_LIMIT", "250"),
            (
                "TIDINGS__WS__ORIGINS",
                "https://a.example, http://b.example:81",
            ),
            ("TIDINGS__AUTH__SECRET", SECRET),
            ("TIDINGS_UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.limits.fanout_limit, 250);
    assert_eq!(
        config.ws.origins,
        ["https://a.example", "http://b.example:81"]
    );
    assert_eq!(config.auth.secret.unwrap().expose_secret(), SECRET);
}

#[test]
fn a_kind_switched_by_one_variable_starts() {
    let file = TempFile::with(
        "[store]\nurl = \"mongodb://db/tidings\"\n[auth]\nsecret = \"0123456789012345678901234567890123\"\n",
    );
    let config = file.load(&[("TIDINGS__STORE__KIND", "mongodb")]).unwrap();
    let StoreConfig::MongoDb { url } = config.store else {
        panic!("expected mongodb");
    };
    assert_eq!(url.expose_secret(), "mongodb://db/tidings");
}

#[test]
fn the_environment_overrides_the_file() {
    let file = TempFile::with("fanout_limit = 10\n[ws]\nmax_connections = 7\n");
    let config = file.load(&[("TIDINGS__FANOUT_LIMIT", "20")]).unwrap();
    assert_eq!(config.limits.fanout_limit, 20);
    assert_eq!(config.ws.max_connections, 7);
}

#[test]
fn every_problem_is_named_at_once() {
    let file = TempFile::with("[ws]\nmax_conections = 7\n[log]\nretention_days = 1\n");
    let variables = [
        ("TIDINGS__STORE__PHAT", "x"),
        ("TIDINGS__BUS__PARTITIONS", "many"),
        ("TIDINGS__AUTH__SECRET", "short"),
        ("TIDINGS__DEFAULT_GROUPS", "lobby,lobby"),
        ("TIDINGS__FANOUT_LIMIT", "4001"),
    ];
    let error = file.load(&variables).unwrap_err().to_string();
    for expected in [
        "ws.max_conections: there is no such setting",
        "store.phat: there is no such setting (from TIDINGS__STORE__PHAT)",
        "bus.partitions: invalid type",
        "auth.secret: must have at least 32 bytes",
        "default_groups: each name once",
        "fanout_limit: must be between 2 and 4000",
        "log.retention_days: less than 25 hours",
    ] {
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
    assert_eq!(error.lines().count(), 7, "{error}");
}

#[test]
fn a_section_in_the_place_of_a_value_is_refused_and_so_is_the_reverse() {
    assert!(problems(Binary::Standalone, &[("TIDINGS__STORE", "x")]).contains("store: "));
    let error = problems(Binary::Standalone, &[("TIDINGS__LISTEN__PORT", "1")]);
    assert!(error.contains("listen.port: "), "{error}");
}

#[test]
fn keys_of_a_kind_not_chosen_are_refused_if_written() {
    let variables = [("TIDINGS__STORE__URL", "mongodb://db/x")];
    let error = problems(Binary::Standalone, &variables);
    assert!(error.contains("store.url: has no meaning with store.kind = \"sqlite\""));
    let variables = [("TIDINGS__BUS__EXCHANGES", "4")];
    assert!(problems(Binary::Standalone, &variables).contains("bus.exchanges"));
}

#[test]
fn a_kind_without_its_address_is_refused() {
    let error = problems(Binary::Standalone, &[("TIDINGS__STORE__KIND", "mongodb")]);
    assert!(error.contains("store.url: is required"), "{error}");
    let error = problems(Binary::Standalone, &[("TIDINGS__BUS__KIND", "rabbitmq")]);
    assert!(error.contains("bus.urls: is required"), "{error}");
    let error = problems(Binary::Standalone, &[("TIDINGS__BUS__KIND", "kafka")]);
    assert_eq!(error, "bus.kind: must be memory or rabbitmq");
}

#[test]
fn the_service_binaries_refuse_what_works_in_one_process_only() {
    for binary in [Binary::Api, Binary::WsPush, Binary::Worker] {
        let error = problems(binary, &[]);
        assert_eq!(error.lines().count(), 4, "{error}");
        assert!(error.contains("\"sqlite\" works within one process only"));
        assert!(error.contains("auth.secret: is required"));
        assert!(load(binary, SERVICE).is_ok());
    }
}

#[test]
fn the_all_in_one_program_takes_any_mixture() {
    for mixture in 0..8 {
        let chosen = [("STORE", 0), ("BUS", 1), ("PRESENCE", 2)];
        let chosen = chosen.map(|(section, bit)| (section, mixture & (1 << bit) != 0));
        let variables: Vec<_> = SERVICE
            .iter()
            .filter(|(name, _)| {
                let of = |section: &str| name.contains(&format!("__{section}__"));
                chosen.iter().all(|(section, is)| *is || !of(section))
            })
            .copied()
            .collect();
        let loaded = load(Binary::Standalone, &variables);
        assert!(loaded.is_ok(), "{variables:?}: {loaded:?}");
    }
}

#[test]
fn addresses_may_ask_for_tls() {
    let mut variables = SERVICE.to_vec();
    variables.extend([
        ("TIDINGS__STORE__URL", "mongodb://db/tidings?tls=true"),
        ("TIDINGS__BUS__URLS", "amqps://app:hunter2@mq"),
        ("TIDINGS__PRESENCE__URL", "rediss://:hunter2@cache"),
    ]);
    let effective = load(Binary::Api, &variables).unwrap().effective();
    for expected in ["?tls=true", "amqps://app:***@mq", "rediss://:***@cache"] {
        assert!(effective.contains(expected), "{effective}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let config = load(Binary::Api, SERVICE).unwrap();
    for shown in [config.effective(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert!(config.effective().contains("mongodb://app:***@db/tidings"));
    let mut wrong = SERVICE.to_vec();
    wrong.push(("TIDINGS__STORE__URL", "postgres://app:hunter2@db"));
    wrong.push(("TIDINGS__BUS__URLS", "app:hunter2@mq"));
    assert!(!problems(Binary::Api, &wrong).contains("hunter2"));
    let file = TempFile::with("[auth]\nsecret = \"hunter2\n");
    assert!(!file.load(&[]).unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_secret_can_come_from_a_file() {
    let secret = TempFile::with(&format!("{SECRET}\n"));
    let path = secret.0.to_str().unwrap();
    let config = load(Binary::Standalone, &[("TIDINGS__AUTH__SECRET_FILE", path)]).unwrap();
    assert_eq!(config.auth.secret.unwrap().expose_secret(), SECRET);

    let both = [
        ("TIDINGS__AUTH__SECRET_FILE", path),
        ("TIDINGS__AUTH__SECRET", SECRET),
    ];
    let error = problems(Binary::Standalone, &both);
    assert_eq!(
        error,
        "auth.secret and auth.secret_file: only one can be given"
    );
    let error = problems(
        Binary::Standalone,
        &[("TIDINGS__AUTH__SECRET_FILE", "/nowhere")],
    );
    assert!(
        error.contains("auth.secret_file: cannot read /nowhere"),
        "{error}"
    );
}

#[test]
fn a_named_file_that_is_missing_or_broken_is_an_error() {
    let missing = PathBuf::from("/nowhere/tidings.toml");
    let error = Config::load_from(Binary::Standalone, Some(&missing), []).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot read /nowhere/tidings.toml")
    );
    let file = TempFile::with("fanout_limit = 10\n[ws\n");
    let error = file.load(&[]).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn addresses_that_default_to_the_listener_name_the_bound_port() {
    let bound = "127.0.0.1:4321".parse().unwrap();
    let config = load(Binary::Standalone, &[("TIDINGS__LISTEN", "127.0.0.1:0")]).unwrap();
    let config = config.with_bound_address(bound);
    assert_eq!(config.public_url, "http://127.0.0.1:4321");
    assert_eq!(config.ws.public_url, "http://127.0.0.1:4321");

    let public = [("TIDINGS__PUBLIC_URL", "https://chat.example/")];
    let config = load(Binary::Standalone, &public)
        .unwrap()
        .with_bound_address(bound);
    assert_eq!(config.public_url, "https://chat.example");
    assert_eq!(config.ws.public_url, "https://chat.example");
}

#[test]
fn each_binary_has_its_own_default_port() {
    let port = |binary| load(binary, SERVICE).unwrap().listen.port();
    assert_eq!(port(Binary::Standalone), 8080);
    assert_eq!(port(Binary::Api), 8080);
    assert_eq!(port(Binary::WsPush), 8081);
    assert_eq!(port(Binary::Worker), 8082);
}

#[test]
fn traces_are_off_until_there_is_a_place_for_them() {
    let telemetry = load(Binary::Standalone, &[]).unwrap().telemetry;
    assert_eq!(telemetry.otlp_endpoint, None);

    let variables = [
        (
            "TIDINGS__TELEMETRY__OTLP_ENDPOINT",
            "http://collector:4318/",
        ),
        ("TIDINGS__TELEMETRY__TRACE_RATIO", "0.25"),
    ];
    let config = load(Binary::Standalone, &variables).unwrap();
    let endpoint = config.telemetry.otlp_endpoint.as_deref();
    assert_eq!(endpoint, Some("http://collector:4318"));
    assert!((config.telemetry.trace_ratio - 0.25).abs() < f64::EPSILON);
    let effective = config.effective();
    assert!(effective.contains("otlp_endpoint = \"http://collector:4318\"\n"));

    let whole = TempFile::with("[telemetry]\ntrace_ratio = 1\n").load(&[]);
    assert!((whole.unwrap().telemetry.trace_ratio - 1.0).abs() < f64::EPSILON);
    for ratio in ["-0.1", "1.5", "NaN"] {
        let error = problems(
            Binary::Standalone,
            &[("TIDINGS__TELEMETRY__TRACE_RATIO", ratio)],
        );
        assert_eq!(error, "telemetry.trace_ratio: must be between 0 and 1");
    }
    let https = [("TIDINGS__TELEMETRY__OTLP_ENDPOINT", "https://collector")];
    let error = problems(Binary::Standalone, &https);
    assert_eq!(error, "telemetry.otlp_endpoint: must begin with http://");
}

#[test]
fn a_list_may_name_several_urls() {
    let mut variables = SERVICE.to_vec();
    variables.push(("TIDINGS__BUS__URLS", "amqp://a,amqp://b"));
    let BusBackend::RabbitMq { urls, exchanges } =
        load(Binary::Api, &variables).unwrap().bus.backend
    else {
        panic!("expected rabbitmq");
    };
    assert_eq!(urls.len(), 2);
    assert_eq!(exchanges.get(), 8);
}

#[test]
fn default_groups_have_names_and_perhaps_an_owner() {
    let config = load(
        Binary::Standalone,
        &[
            ("TIDINGS__DEFAULT_GROUPS", "Lobby, Front desk"),
            ("TIDINGS__DEFAULT_GROUPS_OWNER", "Ada"),
        ],
    );
    let groups = config.unwrap().default_groups;
    let names: Vec<&str> = groups.names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["Lobby", "Front desk"]);
    assert_eq!(groups.owner.unwrap().as_str(), "ada");
    for (variable, value, expected) in [
        (
            "TIDINGS__DEFAULT_GROUPS",
            "a,b\tc",
            "default_groups: must have 1 to 100",
        ),
        (
            "TIDINGS__DEFAULT_GROUPS_OWNER",
            "a b",
            "default_groups_owner: must be 2 to 32",
        ),
    ] {
        let error = problems(Binary::Standalone, &[(variable, value)]);
        assert!(error.contains(expected), "{error}");
    }
    let many: Vec<String> = (0..21).map(|number| number.to_string()).collect();
    let error = problems(
        Binary::Standalone,
        &[("TIDINGS__DEFAULT_GROUPS", &many.join(","))],
    );
    assert!(error.contains("default_groups: at most 20"), "{error}");
}
