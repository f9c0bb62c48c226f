use portcullis::control::{Request, Response};

use super::is_one_line;

/// A line that a client sends, or one that a server answers with: it means something or is refused
/// in a line that can be printed, and what is sent on is what was understood.
pub fn control(line: &[u8]) {
    match Request::decode(line) {
        Ok(request) => {
            match request.asked() {
                Ok(asked) => drop(asked),
                Err(refusal) => {
                    let said = refusal.to_string();
                    assert!(is_one_line(&said), "{said:?}");
                    // A refusal may repeat what was sent, but not without bound.
                    assert!(said.chars().count() <= 1000, "{said:?}");
                }
            }
            // Longer than a request may be is for the sender to find out.
            if let Ok(encoded) = request.encode() {
                assert!(encoded.ends_with(b"\n") && !encoded[..encoded.len() - 1].contains(&b'\n'));
                assert_eq!(Request::decode(&encoded).as_ref(), Ok(&request));
            }
        }
        Err(refusal) => assert!(is_one_line(&refusal.to_string()), "{refusal}"),
    }
    if let Ok(response) = serde_json::from_slice::<Response>(line) {
        let encoded = serde_json::to_vec(&response).expect("a response can be sent");
        let again: Response = serde_json::from_slice(&encoded).expect("and be received");
        assert_eq!(again.code, response.code);
        assert_eq!(
            (again.done, again.refused),
            (response.done, response.refused)
        );
    }
}
