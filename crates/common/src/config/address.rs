//! Addresses inside settings: what makes a base URL or an origin valid, and how an address is
//! shown without its password.

/// Checks a base URL (http or https, host, perhaps a path) and takes a trailing slash off.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let rest = after_web_scheme(text)?;
    let host = rest.split('/').next().unwrap_or_default();
    if !is_authority(host) || rest.contains(['?', '#', ' ', '@']) {
        return Err("must be http(s)://host[:port][/path] and no more".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Like [`base_url`], but http only.
pub(super) fn plain_base_url(text: &str) -> Result<String, String> {
    if !text.starts_with("http://") {
        return Err("must begin with http://".to_owned());
    }
    base_url(text)
}

/// Checks an origin as browsers send it: scheme, host and port, nothing behind.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let rest = after_web_scheme(text)?;
    if !is_authority(rest) || text != text.to_ascii_lowercase() {
        return Err("an origin is http(s)://host[:port] in lower case and no more".to_owned());
    }
    Ok(text.to_owned())
}

fn after_web_scheme(text: &str) -> Result<&str, String> {
    text.strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(|| "must begin with http:// or https://".to_owned())
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    !host.is_empty()
        && host.chars().all(is_host_char)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// `url` with the password, and options that look like one, replaced by `***`. Rather too
/// much is hidden than too little: unusual URLs put `@` and `/` into passwords.
pub(super) fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    let (location, options) = match rest.rsplit_once('?') {
        Some((location, options)) if !options.contains('@') => (location, Some(options)),
        _ => (rest, None),
    };
    let location = match location.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("{login}@{host}"),
        },
        None => location.to_owned(),
    };
    match options {
        Some(options) => {
            let options: Vec<_> = options.split('&').map(masked_option).collect();
            format!("{scheme}://{location}?{}", options.join("&"))
        }
        None => format!("{scheme}://{location}"),
    }
}

fn masked_option(option: &str) -> String {
    let (name, _) = option.split_once('=').unwrap_or((option, ""));
    let lower = name.to_ascii_lowercase();
    let telling = ["pass", "secret", "token", "properties"];
    if telling.iter().any(|word| lower.contains(word)) {
        format!("{name}=***")
    } else {
        option.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{base_url, masked, origin};

    #[test]
    fn a_password_in_an_address_is_masked() {
        let check = |url, shown: &str| assert_eq!(masked(url), shown, "{url}");
        check("mongodb://a:b@h1,h2/db?x=1", "mongodb://a:***@h1,h2/db?x=1");
        check("redis://:b@h/0", "redis://:***@h/0");
        check("amqp://a:p@ss/w?rd@h/v", "amqp://a:***@h/v");
        check(
            "mongodb://h/d?tlsPassword=p&w=1",
            "mongodb://h/d?tlsPassword=***&w=1",
        );
        check("mongodb://h/db", "mongodb://h/db");
        check("hunter2", "***");
    }

    #[test]
    fn a_base_url_is_a_web_address_without_a_query() {
        assert_eq!(
            base_url("https://a.example/x/").unwrap(),
            "https://a.example/x"
        );
        assert_eq!(base_url("http://[::1]:80").unwrap(), "http://[::1]:80");
        for bad in [
            "",
            "a.example",
            "ftp://a",
            "http://",
            "http://a?b",
            "http://a:x",
            "http://u@a",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(origin("https://app.example:8443").is_ok());
        for bad in [
            "null",
            "*",
            "https://a/",
            "https://A.example",
            "https://a.example/x",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
