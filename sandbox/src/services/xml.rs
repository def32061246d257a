//! The little of XML that answers of AWS's query protocol need.

/// The text of the first element of this name, which has no attributes and only text in it.
pub(super) fn text(xml: &str, element: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    // `&amp;` last, or `&amp;lt;` would be unescaped twice.
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ];
    Some(
        entities
            .iter()
            .fold(text.trim().to_owned(), |text, (entity, character)| {
                text.replace(entity, character)
            }),
    )
}

/// What stands in each `<item>` directly in the first element of this name; items of its items stay in them.
pub(super) fn items<'a>(xml: &'a str, set: &str) -> Vec<&'a str> {
    const OPEN: &str = "<item>";
    const CLOSE: &str = "</item>";
    let Some((_, rest)) = xml.split_once(&format!("<{set}>")) else {
        return Vec::new();
    };
    let (mut items, mut depth, mut begin, mut at) = (Vec::new(), 0_usize, 0, 0);
    loop {
        let next = |tag: &str| rest[at..].find(tag).map(|found| at + found);
        match (next(OPEN), next(CLOSE)) {
            (Some(open), close) if close.is_none_or(|close| open < close) => {
                // Behind the last item of this set, another one begins.
                if depth == 0 && rest[at..open].contains("</") {
                    return items;
                }
                at = open + OPEN.len();
                if depth == 0 {
                    begin = at;
                }
                depth += 1;
            }
            (_, Some(close)) if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    items.push(&rest[begin..close]);
                }
                at = close + CLOSE.len();
            }
            _ => return items,
        }
    }
}

/// Text that can stand in an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{escape, items, text};

    #[test]
    fn text_comes_back_as_it_was() {
        let value = "a&b <c> &lt;";
        let xml = format!("<A><Arn> {} </Arn><Arn>other</Arn></A>", escape(value));
        assert_eq!(text(&xml, "Arn").as_deref(), Some(value));
        assert_eq!(text(&xml, "Account"), None);
        assert_eq!(text("<Arn>cut", "Arn"), None);
    }

    #[test]
    fn items_are_those_of_the_set_itself() {
        let xml = "<R><a>\n<item><x>1</x><t><item>in</item></t></item> <item>2</item></a><b><item>3</item></b></R>";
        assert_eq!(items(xml, "a"), ["<x>1</x><t><item>in</item></t>", "2"]);
        assert_eq!(items(xml, "b"), ["3"]);
        assert_eq!(items("<a></a><b><item>3</item></b>", "a"), Vec::<&str>::new());
        assert_eq!(items(xml, "c"), Vec::<&str>::new());
    }
}
