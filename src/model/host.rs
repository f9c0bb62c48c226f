/// Whether the text can be a host name (RFC 1123, section 2.1): labels of letters, digits and
/// hyphens, 253 characters at most, and not all digits at the end, which would be an address.
pub fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(label_fits)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        let long = format!("{}.org", "a".repeat(63));
        for good in [
            "a",
            "gw.example.org",
            "gw.example.org.",
            "3com.com",
            "x-1.org",
            &long,
        ] {
            assert!(is_host_name(good), "{good}");
        }
        let too_long = format!("{}.org", "a".repeat(64));
        let endless = "a.".repeat(127) + "org";
        let bad = [
            "", ".", "-a.org", "a-.org", "a_b.org", "a..org", "é.org", "1.2.3.4", "1.2.3",
        ];
        for bad in bad.into_iter().chain([too_long.as_str(), endless.as_str()]) {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
