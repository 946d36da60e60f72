// What must not be in an attestation: passwords and tokens inside of URLs.
// Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace cooper::attest {

// "https://user:password@host/" anywhere in a text becomes "https://xxxxx:xxxxx@host/". A user alone stays where it is
// no token: in ssh and git URLs.
[[nodiscard]] std::string without_credentials(std::string_view text);

}  // namespace cooper::attest
