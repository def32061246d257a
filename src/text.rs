//! How things are said.

/// A number of things: `1 resource`, `7 resources`. A plural is the noun with an s.
pub(crate) fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into() {
        Ok(1) => format!("1 {noun}"),
        Ok(number) => format!("{number} {noun}s"),
        Err(_) => format!("more {noun}s than can be counted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_said_as_one() {
        let of = |number: usize| counted(number, "resource");
        assert_eq!([of(0), of(1), of(2)], ["0 resources", "1 resource", "2 resources"]);
    }
}
