// What of a value may be remembered: all of it, or, when its name or its look says secret, only a short digest that
// tells it from another value. The digest is keyed and has 32 bits, so that many texts have the same one.
// A value, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cooper::why {

class Redactor {
public:
    // key: of this state directory, random.
    explicit Redactor(std::string key) : key_(std::move(key)) {}
    // The same, which also knows these texts to be secrets wherever they stand.
    [[nodiscard]] Redactor knowing(std::vector<std::string> secrets) const;
    // Of something with a name: an ARG, an environment variable.
    [[nodiscard]] std::string value(std::string_view name, std::string_view value) const;
    // Of an instruction or a path: words that look secret, and values of such names, are hidden. Long texts are cut.
    [[nodiscard]] std::string text(std::string_view text) const;

private:
    [[nodiscard]] std::string hidden(std::string_view value) const;
    [[nodiscard]] std::string shortened(std::string text) const;
    std::string key_;
    std::vector<std::string> secrets_;  // long ones first
};

// Whether a text that a Redactor gave hides something.
[[nodiscard]] bool is_hidden(std::string_view text);
// Whether it hides something that not even a digest is left of: it is equal to whatever was there.
[[nodiscard]] bool is_withheld(std::string_view text);
[[nodiscard]] bool looks_secret(std::string_view value);
[[nodiscard]] bool names_secret(std::string_view name);

}  // namespace cooper::why
