//! Sets and maps of others.

use super::read::Element;
use super::rule::Fits;

/// Where a key is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// This element, or the interval that begins with it.
    In(&'a Element),
    Nowhere,
    /// There are ranges of several fields, which are beyond us.
    Unclear,
}

impl Found<'_> {
    pub(super) fn fits(self) -> Fits {
        match self {
            Found::In(_) => Fits::Yes,
            Found::Nowhere => Fits::No,
            Found::Unclear => Fits::Maybe,
        }
    }
}

/// Looks a key up. Elements come in any order; of intervals there is a start, and an end that is
/// the first key after it.
pub(super) fn find<'a>(list: &'a [Element], key: &[u8]) -> Found<'a> {
    let mut before: Option<&Element> = None;
    let mut has_intervals = false;
    let mut unclear = false;
    for element in list.iter().filter(|element| !element.is_any) {
        has_intervals |= element.is_end;
        unclear |= element.last.is_some();
        if element.key == key && !element.is_end {
            return Found::In(element);
        }
        let is_nearer = before.is_none_or(|found| found.key < element.key);
        if element.key.as_slice() <= key && is_nearer {
            before = Some(element);
        }
    }
    match before {
        _ if unclear => Found::Unclear,
        Some(element) if has_intervals && !element.is_end => Found::In(element),
        _ => find_any(list),
    }
}

/// What stands for every key that has no element.
pub(super) fn find_any(list: &[Element]) -> Found<'_> {
    let any = list.iter().find(|element| element.is_any);
    any.map_or(Found::Nowhere, Found::In)
}
