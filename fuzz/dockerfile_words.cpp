// Word expansion with hostile words and values. The first byte picks the options; "\n" separates the
// word from the value of the variable v.
#include "base/result.hpp"
#include "dockerfile/runes.hpp"
#include "dockerfile/shell_lex.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

using namespace cooper;
using namespace cooper::dockerfile;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0 || size > 4096) return 0;
    const std::uint8_t choice = data[0];
    const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::size_t cut = std::min(rest.find('\n'), rest.size());
    llb::EnvList env;
    env.set("v", rest.substr(std::min(cut + 1, rest.size())));
    env.set("e", "");
    const LexOptions options{.raw_quotes = (choice & 1U) != 0,
                             .raw_escapes = (choice & 2U) != 0,
                             .skip_quotes = (choice & 4U) != 0,
                             .keep_unset = (choice & 8U) != 0};
    const ShellLex lex((choice & 16U) != 0 ? '`' : '\\', options);
    const auto result = lex.expand(rest.substr(0, cut), env);
    if (result) {
        for (const std::string& name : result->matched) CHECK(!result->unmatched.contains(name));
    }
    const auto words = lex.expand_words(rest.substr(0, cut), env);
    CHECK(words.has_value() == result.has_value());
    if (words) {
        for (const std::string& word : *words) CHECK(!word.empty());
    }
    CHECK(from_runes(to_runes(rest)) == rest);
    return 0;
}
