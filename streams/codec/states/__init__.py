"""The forms in which changelogs keep states, a file a form, earlier versions read only."""
