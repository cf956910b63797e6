() => {
  // What changes is read out; Gradio's HTML blocks can't say so themselves.
  for (const id of ["v-category", "v-attributes"]) {
    document.getElementById(id)?.setAttribute("aria-live", "polite");
  }
  // A photo can be pasted wherever the visitor is, except into a text field.
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea")) return;
    const photo = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
    const input = document.querySelector("#v-photo input[type=file]");
    if (!photo || !input) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(photo);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
