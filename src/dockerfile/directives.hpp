// The comments at the top of a file that steer how it is read: "# syntax=", "# escape=", "# check="
// Pure, any thread.
#pragma once

#include "base/result.hpp"

#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

struct Directive {
    std::string name;  // lower case: syntax, escape, check
    std::string value;
    int line = 0;
};

// Reads a file's lines in order, until the first that is no directive. A directive given twice is bad
// input.
class DirectiveReader {
public:
    // `comment`: what directives begin with, "#" in Dockerfiles; must live as long as the reader.
    explicit DirectiveReader(std::string_view comment) : comment_(comment) {}
    [[nodiscard]] Result<std::optional<Directive>> read(std::string_view line);
    [[nodiscard]] bool done() const { return done_; }

private:
    std::string_view comment_;
    std::set<std::string, std::less<>> seen_;
    bool done_ = false;
    int line_ = 0;
};

// Which frontend a file asks for: "# syntax=", "// syntax=", or a JSON object's "syntax"; a first
// line with "#!" is not looked at.
struct SyntaxRequest {
    std::string image;         // the first word
    std::string command_line;  // all of it
    int line = 0;              // of the file, 1-based
};
[[nodiscard]] std::optional<SyntaxRequest> detect_syntax(std::string_view text);

}  // namespace cooper::dockerfile
