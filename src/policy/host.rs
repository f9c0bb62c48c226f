/// Whether the text is a host name (RFC 1123, section 2.1: letters, digits and hyphens, labels of
/// 1 to 63 characters that neither begin nor end with a hyphen, 253 characters in all, a closing
/// dot allowed). A name whose last label is a number would be a mistyped address.
pub(super) fn is_host_name(text: &str) -> bool {
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
