// The last word of a page: what is thrown or does not arrive before a page has shown
// anything leaves #last there, a sentence, and not a blank. main.js takes it away once the
// page speaks for itself.
//
// A classic script of the oldest JavaScript, loaded first and by itself, because what it
// waits for is modules that do not load, and browsers that know none.

(function () {
  var PATIENCE = 15000;

  function tell() {
    if (document.readyState === "loading") return document.addEventListener("DOMContentLoaded", tell);
    var last = document.getElementById("last");
    if (!last || !last.hidden) return;
    var sections = document.querySelectorAll("main > section");
    for (var i = 0; i < sections.length; i++) /** @type {HTMLElement} */ (sections[i]).hidden = sections[i] !== last;
    var reload = document.getElementById("last-reload");
    if (reload) reload.onclick = function () { location.reload(); };
    var title = document.getElementById("last-title");
    if (title) title.focus();
  }

  // Captured, so that a script that does not load is heard as well.
  addEventListener("error", tell, true);
  addEventListener("unhandledrejection", tell);
  setTimeout(tell, PATIENCE);
  if (!("noModule" in document.createElement("script"))) tell();
})();
