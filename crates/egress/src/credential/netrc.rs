//! `.netrc`, read as the go command reads it.

/// The login and password for a machine: the first entry that has both. `default` counts for nothing: a password for
/// every host in the world is a mistake.
pub(crate) fn find<'a>(text: &'a str, host: &str) -> Option<(&'a str, &'a str)> {
    let (mut machine, mut login, mut password) = (None, None, None);
    let mut in_macro = false;
    for line in text.lines() {
        if in_macro {
            in_macro = !line.is_empty();
            continue;
        }
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "default" => return None,
                "macdef" => {
                    in_macro = true;
                    break;
                }
                "machine" => (machine, login, password) = (words.next(), None, None),
                "login" => login = words.next(),
                "password" => password = words.next(),
                _ => {
                    words.next();
                }
            }
            if let (Some(name), Some(login), Some(password)) = (machine, login, password)
                && name.eq_ignore_ascii_case(host)
            {
                return Some((login, password));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let text = "machine a.example login me password one\n\
            machine b.example\n  login you\n  password two\n\
            macdef init\nmachine c.example login x password y\n\n\
            machine d.example password three account z login them\n\
            default login any password body\n\
            machine e.example login late password late\n";
        for (host, want) in [
            ("a.example", Some(("me", "one"))),
            ("A.example", Some(("me", "one"))),
            ("b.example", Some(("you", "two"))),
            ("c.example", None),
            ("d.example", Some(("them", "three"))),
            ("e.example", None),
            ("x.example", None),
        ] {
            assert_eq!(find(text, host), want, "{host}");
        }
    }
}
