// Lines that announce here-documents, and their bodies inside a file.
#include "base/result.hpp"
#include "dockerfile/instructions.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

using namespace cooper;
using namespace cooper::dockerfile;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)heredocs_of_line(text);
    (void)read_heredoc_word(text);
    const std::string chomped = chomp_heredoc(text);
    CHECK(chomped.size() <= text.size() && chomp_heredoc(chomped) == chomped);
    for (const char* before : {"FROM a\nRUN ", "FROM a\nCOPY ", "FROM a\nONBUILD ADD "}) {
        const auto file = parse(before + std::string(text), "Dockerfile");
        if (!file) continue;
        for (const Node& node : file->nodes) {
            if (const auto instruction = parse_instruction(node)) CHECK(!instruction->name.empty());
        }
    }
    return 0;
}
