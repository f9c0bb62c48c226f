pub fn matcher(_bytes: &[u8]) {}
