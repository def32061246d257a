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

/// Text that can stand in an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{escape, text};

    #[test]
    fn text_comes_back_as_it_was() {
        let value = "a&b <c> &lt;";
        let xml = format!("<A><Arn> {} </Arn><Arn>other</Arn></A>", escape(value));
        assert_eq!(text(&xml, "Arn").as_deref(), Some(value));
        assert_eq!(text(&xml, "Account"), None);
        assert_eq!(text("<Arn>cut", "Arn"), None);
    }
}
